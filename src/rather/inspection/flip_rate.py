"""How many labels are wrong? The flip rate that ``rdpo`` and other flip-corrected losses ask for (arXiv 2403.00409).

Two estimators, for two kinds of evidence:

From held-out margins. Let z be the implicit-reward margin that a fitted model gives to the labelled order of a pair it was
not trained on. If the true order follows Bradley-Terry and a share e of the labels is flipped, the labelled order has

    P(z) = (1 - 2 e) sigma(s z) + e,

which levels off at 1 - e and not at 1. The rate e and the scale s >= 0 (a model trained on flipped labels is too timid, so
its scale is not 1) are those that make the margins most likely; the interval is that of the profile likelihood. It needs
margins that reach out to where sigma(s z) is flat: with small margins only, every rate fits, and the interval says so.

From pairs that were labelled twice, independently. If the true order of a pair is certain, two labels disagree with
probability d = 2 e (1 - e), so e = (1 - sqrt(1 - 2 d)) / 2. Honest differences of taste count as flips here, so this is an
upper estimate of what is merely wrong; rows that are copies of each other count as agreement, so remove them before.

The estimators are our choice; the paper takes the rate as known.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from rather.data.identity import digest
from rather.data.types import Comparison
from rather.errors import UserError
from rather.stats import wilson

MOST = 0.499
"""Largest rate considered; at 1/2 labels say nothing."""
QUANTILE = 3.841459
"""95% quantile of chi-squared with one degree of freedom."""
GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class FlipRate:
    """An estimated rate of flipped labels.

    Attributes:
        rate: the estimate, in [0, 1/2).
        low, high: ends of its 95% interval.
        count: margins, or pairs of labels, that it rests on.
        scale: s, factor on the margins under which they are most likely; ``None`` without margins.
    """

    rate: float
    low: float
    high: float
    count: int
    scale: float | None = None


def estimate_flip_rate(
    margins: Tensor | Sequence[float] | None = None, comparisons: Iterable[Comparison] | None = None
) -> FlipRate:
    """Estimate the share of flipped labels; see the module docstring for both estimators.

    Args:
        margins: [N] margins of held-out pairs in their labelled order, in any unit: those of a model that has not seen
            the pairs. They are detached.
        comparisons: data in which some pairs of responses stand more than once.

    Raises:
        UserError: neither or both are given, a margin is not finite, there are too few, or no pair stands twice.
    """
    if (margins is None) == (comparisons is None):
        raise UserError("give margins or comparisons", where="estimate_flip_rate")
    if comparisons is not None:
        return _from_repeats(comparisons)
    return _from_margins(torch.as_tensor(margins).detach().double().flatten())


def _from_margins(margins: Tensor) -> FlipRate:
    if len(margins) < 2:
        raise UserError(f"{len(margins)} margins are too few", where="margins")
    if not margins.isfinite().all():
        raise UserError(f"{int((~margins.isfinite()).sum())} margins are not finite", where="margins")
    unit = float(margins.abs().mean()) or 1.0

    def likelihood(rate: float, scale: float) -> float:
        return float(torch.log((1 - 2 * rate) * torch.sigmoid(scale / unit * margins) + rate + 1e-300).sum())

    @cache
    def profile(rate: float) -> tuple[float, float]:
        """(log-likelihood, scale) of the best scale at a rate."""
        scale = math.exp(_maximum(lambda log: likelihood(rate, math.exp(log)), -7.0, 7.0, tolerance=1e-4))
        return max((likelihood(rate, scale), scale), (likelihood(rate, 0.0), 0.0))

    grid = [MOST * step / 25 for step in range(26)]
    best = max(grid, key=lambda rate: profile(rate)[0])
    near = max(0.0, best - MOST / 25), min(MOST, best + MOST / 25)
    rate = max(_maximum(lambda rate: profile(rate)[0], *near, tolerance=1e-4), best, key=lambda rate: profile(rate)[0])
    top, scale = profile(rate)
    inside = [each for each in grid if 2 * (top - profile(each)[0]) <= QUANTILE]
    low = _crossing(lambda at: 2 * (top - profile(at)[0]) - QUANTILE, min([rate, *inside]), -MOST / 25)
    high = _crossing(lambda at: 2 * (top - profile(at)[0]) - QUANTILE, max([rate, *inside]), MOST / 25)
    return FlipRate(rate, low, high, len(margins), scale / unit)


def _maximum(value: Callable[[float], float], low: float, high: float, tolerance: float) -> float:
    """Where a function with one peak is largest, by golden section."""
    left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    at_left, at_right = value(left), value(right)
    while high - low > tolerance:
        if at_left >= at_right:
            high, right, at_right = right, left, at_left
            left = high - GOLDEN * (high - low)
            at_left = value(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + GOLDEN * (high - low)
            at_right = value(right)
    return (low + high) / 2


def _crossing(excess: Callable[[float], float], inside: float, step: float) -> float:
    """Where ``excess`` turns positive within one step from ``inside``; the edge of [0, MOST] when it does not."""
    outside = min(MOST, max(0.0, inside + step))
    if excess(outside) <= 0:
        return outside
    for _ in range(20):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if excess(middle) <= 0 else (inside, middle)
    return inside


def _from_repeats(comparisons: Iterable[Comparison]) -> FlipRate:
    labels: dict[tuple[int, int, int], list[int]] = defaultdict(lambda: [0, 0])
    for comparison in comparisons:
        prompt, names = digest(comparison.prompt), [digest(response) for response in comparison.responses]
        for edge in comparison.edges:
            winner, loser = names[edge.winner], names[edge.loser]
            if winner != loser:
                labels[(prompt, min(winner, loser), max(winner, loser))][winner < loser] += 1
    repeated = [counts for counts in labels.values() if sum(counts) > 1]
    if not repeated:
        fix = "give held-out margins instead: estimate_flip_rate(margins=...)"
        raise UserError("no pair of responses stands more than once", where="comparisons", fix=fix)
    # k labels of one pair are k - 1 independent looks at it, however many pairs of labels they make.
    looks = sum(sum(counts) - 1 for counts in repeated)
    share = sum(_disagreement(*counts) * (sum(counts) - 1) for counts in repeated) / looks
    low, high = wilson(share * looks, looks)
    return FlipRate(_rate(share), _rate(low), _rate(high), looks)


def _disagreement(one: int, other: int) -> float:
    """Share of the pairs of labels that disagree."""
    return one * other / math.comb(one + other, 2)


def _rate(share: float) -> float:
    """e from 2 e (1 - e) = share; no rate gives a share above 1/2."""
    return min(MOST, (1 - math.sqrt(max(0.0, 1 - 2 * share))) / 2)
