"""Prompts with mixes of constraints: one response under two prompts, one pair of responses under two prompts.

Constraints stand at the end of the last user turn, so a policy that cuts the start of long prompts keeps them. The two
prompts of a contrast have as many constraints, of the same families in the same order, so that number and topic do not
tell which is the better one.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rather.data.fields import is_messages, text_of
from rather.data.identity import digest
from rather.data.types import Auxiliary, Comparison, Prompt, Response
from rather.worlds.instructions.separating import Constraint, Offer, offers, relations, together
from rather.worlds.instructions.text import words

Intra = Literal["both", "a", "b", "response_conditioned"]
Inter = Literal["contrast", "strengthen", "bt"]

_DRAWS = 8  # tries at a mix that can be asked for in one prompt


@dataclass(frozen=True)
class Contrasted:
    """Two mixes of constraints, ``better`` and ``worse`` for the text that they were built for."""

    better: tuple[Constraint, ...]
    worse: tuple[Constraint, ...]


def with_constraints(prompt: Prompt, told: Sequence[str]) -> Prompt:
    """The prompt with instructions at the end of its last user turn."""
    if not told:
        return prompt
    said = " ".join(told)
    if not is_messages(prompt):
        return f"{prompt}\n{said}"
    last = max((i for i, turn in enumerate(prompt) if turn["role"] == "user"), default=None)
    if last is None:
        return (*prompt, {"role": "user", "content": said})
    content = prompt[last]["content"]
    more = f"{content}\n{said}" if isinstance(content, str) else [*content, {"type": "text", "text": said}]
    return (*prompt[:last], {**prompt[last], "content": more}, *prompt[last + 1 :])


def contrasted(
    rng: random.Random, texts: tuple[str, str], most: int, relation: Literal["a", "b"]
) -> Contrasted | None:
    """Mixes of one to ``most`` constraints for the first of two texts, in one of the relations of ``relations``.

    Relation a: all of better obeyed, a random number of worse broken, at least one. Relation b: none of worse obeyed, a
    random number of better obeyed, at least one.
    """
    found = offers(rng, texts)
    for _ in range(_DRAWS if found else 0):
        used = rng.sample(found, rng.randint(1, min(most, len(found))))
        apart = set(rng.sample(range(len(used)), rng.randint(1, len(used))))  # obeyed in better, broken in worse
        better, worse = [], []
        for position, offer in enumerate(used):
            own, other = offer.own
            good, bad = rng.choice(own), rng.choice(other)
            if position not in apart:
                good, bad = _two(rng, own if relation == "a" else other)
            better.append(good)
            worse.append(bad)
        made = Contrasted(tuple(better), tuple(worse))
        if together(better) and together(worse) and relation in relations(texts[0], better, worse):
            return made
    return None


def _two(rng: random.Random, offered: Sequence[Constraint]) -> tuple[Constraint, Constraint]:
    """Two constraints, different where there are two."""
    first, *rest = rng.sample(offered, min(2, len(offered)))
    return first, rest[0] if rest else first


def opposed(rng: random.Random, texts: tuple[str, str], most: int) -> Contrasted | None:
    """Mixes that the first text obeys in full and the second breaks in full, and the other way round."""
    found: list[Offer] = offers(rng, texts)
    for _ in range(_DRAWS if found else 0):
        used = rng.sample(found, rng.randint(1, min(most, len(found))))
        better, worse = (tuple(rng.choice(offer.own[side]) for offer in used) for side in (0, 1))
        if together(better) and together(worse):
            return Contrasted(better, worse)
    return None


def length_limit(rng: random.Random, text: str, *, obeyed: bool) -> Constraint | None:
    """A limit of words that a text obeys, or breaks; ``None`` for a text of fewer than two words."""
    count = len(words(text))
    if count < 2:
        return None
    near = rng.randint(1, count // 2)
    above, below = {"n": count + near}, {"n": count - near}
    most, least = (above, below) if obeyed else (below, above)
    return rng.choice((Constraint("max_words", most), Constraint("min_words", least)))


def augmented(comparison: Comparison, seed: int, *, intra: Intra | None, inter: Inter | None, most: int) -> Comparison:
    """The comparison with auxiliary responses of the roles intra and inter, where its texts allow them.

    Of a ranking one edge is drawn. A function of the comparison and the seed.

    Args:
        intra: relation between the two prompts of one response (``both`` draws one), or ``response_conditioned``: the
            plain prompt against a length limit that the chosen response breaks, and a limit that the rejected one obeys
            against the plain prompt (arXiv 2502.00814). ``None`` for none.
        inter: ``contrast``: prompts that suit the chosen and the rejected response; ``strengthen``: a prompt that suits
            the chosen one, and the plain prompt; ``bt``: the prompts of ``contrast``, each as a preference of its own.
        most: constraints of a prompt.
    """
    if not comparison.edges:
        return comparison
    rng = random.Random(digest(["mixes", seed, comparison.id]))
    edge = rng.choice(comparison.edges)
    ends = (comparison.responses[edge.winner], comparison.responses[edge.loser])
    build = _Builder(comparison.prompt, ends, rng, most)
    found = [*(build.intra(intra) if intra else ()), *(build.inter(inter) if inter else ())]
    return comparison.with_auxiliary([*comparison.auxiliary, *found]) if found else comparison


class _Builder:
    """Auxiliary responses of one pair of responses (chosen, rejected)."""

    def __init__(self, prompt: Prompt, ends: tuple[Response, Response], rng: random.Random, most: int) -> None:
        self.prompt, self.ends, self.rng, self.most = prompt, ends, rng, most
        self.texts = (text_of(ends[0]), text_of(ends[1]))

    def intra(self, kind: Intra) -> list[Auxiliary]:
        if kind == "response_conditioned":
            return self._response_conditioned()
        side = self.rng.randrange(2)
        relation = kind if kind != "both" else self.rng.choice(("a", "b"))
        made = contrasted(self.rng, (self.texts[side], self.texts[1 - side]), self.most, relation)
        if made is None:
            return []
        better, worse = self._prompts(made)
        return self._contrast(self.ends[side], better, worse, 0)

    def _response_conditioned(self) -> list[Auxiliary]:
        broken = length_limit(self.rng, self.texts[0], obeyed=False)
        obeyed = length_limit(self.rng, self.texts[1], obeyed=True)
        if broken is None or obeyed is None:
            return []
        limited = [with_constraints(self.prompt, [one.told(self.rng)]) for one in (broken, obeyed)]
        return [
            *self._contrast(self.ends[0], self.prompt, limited[0], 0),
            *self._contrast(self.ends[1], limited[1], self.prompt, 1),
        ]

    def _contrast(self, response: Response, better: Prompt, worse: Prompt, group: int) -> list[Auxiliary]:
        ends = ((better, 1.0), (worse, -1.0))
        return [Auxiliary("intra", response, prompt=asked, group=group, sign=sign) for asked, sign in ends]

    def inter(self, kind: Inter) -> list[Auxiliary]:
        made = opposed(self.rng, self.texts, self.most)
        if made is None:
            return []
        asked, other = self._prompts(made)
        if kind == "strengthen":
            other = self.prompt
        groups = (0, 1) if kind == "bt" else (0, 0)
        return [
            Auxiliary("inter", response, prompt=prompt, group=group, sign=sign * of_prompt)
            for prompt, of_prompt, group in zip((asked, other), (1.0, -1.0), groups, strict=True)
            for response, sign in zip(self.ends, (1.0, -1.0), strict=True)
        ]

    def _prompts(self, made: Contrasted) -> tuple[Prompt, Prompt]:
        """Both prompts, their constraints in one order."""
        order = self.rng.sample(range(len(made.better)), len(made.better))
        better, worse = (
            with_constraints(self.prompt, [mix[i].told(self.rng) for i in order]) for mix in (made.better, made.worse)
        )
        return better, worse
