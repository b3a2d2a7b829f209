"""Statistics that several layers quote."""

from __future__ import annotations

import math


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
