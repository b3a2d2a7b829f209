"""Groups for GPO and ranking distillation: several responses of a model to each prompt, scored by a judge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from rather.data.identity import content_id
from rather.data.types import Comparison, Edge
from rather.errors import UserError
from rather.policies.base import Encoded
from rather.policies.language import LanguagePolicy
from rather.rewards.base import Judge
from rather.rewards.diverse import farthest

_CHUNK = 32  # prompts that are sampled together


@dataclass(frozen=True)
class Sampling:
    """How responses are drawn.

    Attributes:
        n: responses of each prompt.
        keep: keep so many of the different ones, chosen to be far apart (``rather.rewards.diverse``); ``None``: all.
    """

    n: int = 5
    keep: int | None = None
    max_new_tokens: int = 128
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0


@dataclass
class Tally:
    """What became of the prompts: written groups, and the reasons for those left out."""

    written: int = 0
    left_out: Counter[str] = field(default_factory=Counter)


def groups(
    policy: LanguagePolicy, prompts: Sequence[Comparison], judge: Judge, sampling: Sampling, tally: Tally | None = None
) -> Iterator[Comparison]:
    """Comparisons with ``n`` responses, a score each, and an edge for every strictly ordered two.

    The score is the judge's: a reward, or for a judge of pairs the mean preference over the group. A prompt is left out
    where fewer than two responses differ or all score alike.

    Args:
        policy: what is sampled from.
        prompts: their prompts are used, nothing else of them.
        tally: counts what was written and what left out.
    """
    tally = tally if tally is not None else Tally()
    bare = [Comparison(c.id, c.prompt, ("-",), source=c.source) for c in _distinct(prompts, tally)]
    encoded = policy.encode(bare)
    tally.left_out.update(policy.report.dropped)
    for start in range(0, len(encoded), _CHUNK):
        chunk = encoded[start : start + _CHUNK]
        for item, texts in zip(chunk, _sample(policy, chunk, start, sampling), strict=True):
            found = _judged(item.comparison, texts, judge, sampling.keep)
            if isinstance(found, str):
                tally.left_out[found] += 1
            else:
                tally.written += 1
                yield found


def _distinct(prompts: Iterable[Comparison], tally: Tally) -> Iterator[Comparison]:
    """The first comparison of each prompt."""
    seen: set[str] = set()
    for comparison in prompts:
        key = content_id(Comparison("", comparison.prompt, ()))
        if key in seen:
            tally.left_out["the same prompt again"] += 1
            continue
        seen.add(key)
        yield comparison


def _sample(policy: LanguagePolicy, encoded: Sequence[Encoded], start: int, sampling: Sampling) -> list[list[str]]:
    """Different non-empty texts for each prompt, in the order they were drawn."""
    from rather.sampling.generate import generate

    prompts = [[int(token) for token in item.inputs[0].prompt] for item in encoded]
    with policy.sampling():
        drawn = generate(
            policy.model,
            policy.tokenizer,
            prompts,
            max_new_tokens=sampling.max_new_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            n=sampling.n,
            seed=sampling.seed * 1_000_003 + start,
        )
    return [list(dict.fromkeys(one.text for one in samples if one.text.strip())) for samples in drawn]


def _judged(comparison: Comparison, texts: list[str], judge: Judge, keep: int | None) -> Comparison | str:
    """The scored group, or why there is none."""
    if keep is not None:
        if len(texts) < keep:
            return f"fewer than {keep} different responses"
        texts = [texts[index] for index in farthest(texts, keep)]
    if len(texts) < 2:
        return "fewer than two different responses"
    try:
        scores = [float(score) for score in judge.score(comparison.prompt, texts)]
    except UserError as error:
        return error.what
    if len(texts) == 2 and scores[0] > scores[1]:
        # Two in falling order would be written as a pair, and a file holds rows of one format only.
        texts, scores = texts[::-1], scores[::-1]
    edges = tuple(Edge(i, j, margin=a - b) for i, a in enumerate(scores) for j, b in enumerate(scores) if a > b)
    if not edges:
        return "all responses score alike"
    found = replace(comparison, responses=tuple(texts), edges=edges, scores=tuple(scores))
    return replace(found, id=content_id(found), source=None)
