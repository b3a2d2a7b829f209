"""Statistics that several layers quote."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


def wilson(successes: float, trials: float, z: float = 1.959964) -> tuple[float, float]:
    """Wilson score interval of a rate (95% by default); ties may count as half a success; (0, 1) without trials."""
    if trials <= 0:
        return 0.0, 1.0
    rate = successes / trials
    centre = (rate + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    return max(0.0, centre - half), min(1.0, centre + half)


def student_t(degrees: int, confidence: float = 0.95) -> float:
    """Two-sided quantile of Student's t: P(|T| <= t) = confidence, for at least one degree of freedom."""
    low, high = 0.0, math.tan(math.pi / 2 * confidence)  # the quantile of one degree, the largest of all
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if _within_t(middle, degrees) < confidence else (low, middle)
    return (low + high) / 2


def _within_t(t: float, degrees: int) -> float:
    """P(|T| <= t) by the finite series for whole degrees (Abramowitz and Stegun 26.7.3 and 26.7.4)."""
    angle = math.atan(t / math.sqrt(degrees))
    odd = degrees % 2
    term = math.sin(angle) * (math.cos(angle) if odd else 1.0)
    total = 0.0
    for step in range(1 + odd, degrees, 2):
        total += term
        term *= math.cos(angle) ** 2 * step / (step + 1)
    return 2 / math.pi * (angle + total) if odd else total


@dataclass(frozen=True)
class PairedChange:
    """What changed between two looks at the same things, each right or wrong.

    Attributes:
        gained, lost: how many became right, and wrong.
        change: difference of the two rates.
        interval: its 95% interval (Newcombe 1998, paired differences, method 10).
        p: two-sided exact McNemar test of "as many are gained as lost".
    """

    gained: int
    lost: int
    change: float
    interval: tuple[float, float]
    p: float


def paired_change(before: Sequence[bool], after: Sequence[bool]) -> PairedChange:
    """The change of a rate over the same ``n`` things, which is told more sharply than by two intervals of rates.

    Args:
        before, after: [n] whether each is right; n at least 1.
    """
    pairs = [(bool(b), bool(a)) for b, a in zip(before, after, strict=True)]
    both, lost, gained, neither = (
        pairs.count(kind) for kind in ((True, True), (True, False), (False, True), (False, False))
    )
    n = len(pairs)
    old, new = (both + lost) / n, (both + gained) / n
    (old_low, old_high), (new_low, new_high) = wilson(both + lost, n), wilson(both + gained, n)
    spread = (both + lost) * (gained + neither) * (both + gained) * (lost + neither)
    excess = both * neither - lost * gained
    phi = (max(excess - n / 2, 0.0) if excess > 0 else excess) / math.sqrt(spread) if spread else 0.0

    def reach(x: float, y: float) -> float:
        return math.sqrt(max(x * x - 2 * phi * x * y + y * y, 0.0))

    low, high = reach(new - new_low, old_high - old), reach(new_high - new, old - old_low)
    changed = gained + lost
    tail = sum(math.comb(changed, k) for k in range(min(gained, lost) + 1))
    return PairedChange(gained, lost, new - old, (new - old - low, new - old + high), min(1.0, 2 * tail / 2**changed))
