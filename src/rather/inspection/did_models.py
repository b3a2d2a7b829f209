"""Differential information of two language models (arXiv 2505.23761): what one has learned over the other.

Sequences cannot be enumerated, so three numbers stand for the distribution q ~ pi / ref over them (``did`` has the theory):
how the likelihood of the data's responses has moved; the entropy of q over the next token, exact at every token of the
chosen responses; and, from responses that are sampled, an estimate of the entropy over whole responses, with the effective
number of samples it rests on. With the model that wrote the rejected responses, also the order of the margins.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rather.data.types import Comparison
from rather.errors import UserError
from rather.inspection.did import OrderCheck, differential_information, entropy, estimate_entropy, order_check
from rather.objectives.scores import Layout, Scores, segment_sum
from rather.policies.base import Encoded
from rather.policies.head import chunk_rows
from rather.policies.language import LanguagePolicy
from rather.training.plan import cut


@dataclass(frozen=True)
class Mean:
    """A mean with its standard error (NaN for a single value) over ``count`` values."""

    value: float
    error: float
    count: int

    @staticmethod
    def of(values: Sequence[float]) -> Mean:
        error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
        return Mean(statistics.fmean(values), error, len(values))


@dataclass(frozen=True)
class Information:
    """What a policy has learned over a reference, on pairs of chosen and rejected responses.

    Attributes:
        chosen, rejected: change of a response's log-probability, in nats, summed over its tokens; mean over edges.
        tokens: entropy of q over the next token, in nats; a mean over the tokens of the chosen responses of each
            comparison, then over comparisons. log of ``vocabulary`` where nothing was learned.
        order: of the edges' margins, where the rejected responses' model is known.
    """

    chosen: Mean
    rejected: Mean
    tokens: Mean
    vocabulary: int
    order: OrderCheck | None


@dataclass(frozen=True)
class Sampled:
    """Entropy of q over responses, estimated for each prompt from samples of the policy.

    Attributes:
        entropy, ess: one value a prompt; an entropy whose ``ess`` is near 1 rests on a single sample.
        unfinished: share of the samples that did not end by themselves; they are left out.
    """

    entropy: tuple[float, ...]
    ess: tuple[float, ...]
    unfinished: float


def information(
    policy: LanguagePolicy,
    reference: LanguagePolicy,
    comparisons: Sequence[Comparison],
    rejected: LanguagePolicy | None = None,
    *,
    max_cost: int = 4096,
) -> Information:
    """Compare two models on pairs; all must have one tokenizer.

    Args:
        rejected: the model that wrote the rejected responses.
        max_cost: tokens of a batch.

    Raises:
        UserError: no comparison with an edge can be encoded, or the models do not share tokens or a way to score.
    """
    models = [policy, reference, *([rejected] if rejected is not None else [])]
    changes: tuple[list[float], list[float]] = ([], [])
    tokens: list[float] = []
    margins: list[list[Tensor]] = [[] for _ in models]
    vocabulary = 0
    paired = [comparison for comparison in comparisons if comparison.edges]
    for layout, scores in _scored(models, paired, max_cost, states=True):
        sums = [segment_sum(each.elements, each.response, layout.responses).double() for each in scores]
        for found, index in zip(changes, (layout.winner, layout.loser), strict=True):
            found += (sums[0] - sums[1])[index].tolist()
        for found, each in zip(margins, sums, strict=True):
            found.append((each[layout.winner] - each[layout.loser]).cpu())
        by_token, vocabulary = token_entropy(scores[0], scores[1])
        tokens += _by_comparison(by_token, scores[0].response, layout)
    order = order_check(*(torch.cat(found) for found in margins)) if rejected is not None else None
    return Information(Mean.of(changes[0]), Mean.of(changes[1]), Mean.of(tokens), vocabulary, order)


def token_entropy(policy: Scores, reference: Scores) -> tuple[Tensor, int]:
    """[E] entropy in nats of q over the vocabulary at each token, a chunk of positions at a time; and its size.

    Args:
        policy, reference: scores of the same tokens, with ``states`` and ``head``.

    Raises:
        UserError: the vocabularies differ.
    """
    assert policy.head is not None and reference.head is not None
    states = policy.extras["states"], reference.extras["states"]
    widths = [head(each[:1]).shape[-1] for head, each in zip((policy.head, reference.head), states, strict=True)]
    if widths[0] != widths[1]:
        raise UserError(f"outputs of {widths[0]} and of {widths[1]} tokens", where="--reference", fix=_ONE_TOKENIZER)
    rows = chunk_rows(widths[0])
    found = [
        entropy(differential_information(policy.head(one).float(), reference.head(other).float()))
        for one, other in zip(states[0].split(rows), states[1].split(rows), strict=True)
    ]
    return torch.cat(found), widths[0]


_ONE_TOKENIZER = "compare a model with the one it was trained from"


def _by_comparison(values: Tensor, response: Tensor, layout: Layout) -> list[float]:
    """Means of element values over the chosen responses of each comparison."""
    chosen = torch.zeros_like(layout.compared).index_fill(0, layout.winner, True)[response]
    owner = layout.prompt[response][chosen]
    count = torch.bincount(owner, minlength=layout.lists)
    return (segment_sum(values[chosen], owner, layout.lists)[count > 0] / count[count > 0]).tolist()


@torch.no_grad()
def _scored(
    models: Sequence[LanguagePolicy], comparisons: Sequence[Comparison], max_cost: int, *, states: bool
) -> Iterator[tuple[Layout, list[Scores]]]:
    """Batches of comparisons with every model's scores of them."""
    of_each = [{item.comparison.id: item for item in model.encode(comparisons)} for model in models]
    kept = [c.id for c in comparisons if all(c.id in known for known in of_each)]
    if not kept:
        fix = "a larger --max-length keeps longer ones; rather check DATA names each row and why"
        raise UserError("no comparison with a chosen and a rejected response can be encoded", where="--data", fix=fix)
    costs = [of_each[0][name].cost for name in kept]
    wants = frozenset({"states"}) if states else frozenset[str]()
    for model in models:
        if not wants <= model.provides:
            raise UserError("its body and output layer cannot be told apart", where=f"--model {model.settings.model}")
    for part in cut(range(len(kept)), costs, max_cost, None):
        items: list[list[Encoded]] = [[known[kept[index]] for index in part] for known in of_each]
        if any(item.lengths != first.lengths for other in items for item, first in zip(other, items[0], strict=True)):
            raise UserError("the models cut the responses into different tokens", where="--data", fix=_ONE_TOKENIZER)
        scores, layout = [], None
        for model, own in zip(models, items, strict=True):
            batch = model.collate(own).to(next(model.network.parameters()).device)
            layout = layout or batch.layout
            scores.append(model.score(model.network, batch, None, wants=wants))
        assert layout is not None
        yield layout, scores


def sampled_entropy(
    policy: LanguagePolicy,
    reference: LanguagePolicy,
    prompts: Sequence[Comparison],
    *,
    n: int = 32,
    max_new_tokens: int = 128,
    seed: int = 0,
    max_cost: int = 4096,
) -> Sampled:
    """Entropy of q over responses, from ``n`` samples of the policy to each prompt.

    A response that did not end by itself is left out: its probability is not that of a whole response. Prompts with fewer
    than two whole ones are left out as well.

    Raises:
        UserError: no prompt has two whole responses.
    """
    from rather.sampling.generate import generate

    bare = [Comparison(c.id, c.prompt, ("-",), source=c.source) for c in prompts]
    encoded = policy.encode(bare)
    with policy.sampling():
        ids = [[int(token) for token in item.inputs[0].prompt] for item in encoded]
        drawn = generate(
            policy.model, policy.tokenizer, ids, max_new_tokens=max_new_tokens, n=n, seed=seed, temperature=1.0
        )
    whole = [tuple(one.text for one in each if one.finished and one.text.strip()) for each in drawn]
    groups = [
        Comparison(item.comparison.id, item.comparison.prompt, texts)
        for item, texts in zip(encoded, whole, strict=True)
        if len(texts) > 1
    ]
    if not groups:
        fix = "allow longer responses: --max-new-tokens"
        raise UserError("no prompt has two responses that ended by themselves", where="--samples", fix=fix)
    entropies: list[float] = []
    sizes: list[float] = []
    for layout, (own, other) in _scored([policy, reference], groups, max_cost, states=False):
        sums = [segment_sum(each.elements, each.response, layout.responses).double() for each in (own, other)]
        for group in range(layout.lists):
            of_policy, of_reference = (each[layout.prompt == group] for each in sums)
            found = estimate_entropy(of_policy, of_reference, of_policy)
            entropies.append(float(found.entropy))
            sizes.append(float(found.ess))
    ended = sum(one.finished for each in drawn for one in each)
    return Sampled(tuple(entropies), tuple(sizes), 1 - ended / max(1, sum(map(len, drawn))))
