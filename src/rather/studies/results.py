"""What a study measured: one number for each seed, cell and metric, and what can be said about them.

Seeds are paired: every arm of a study sees the same world under the same seed, so arms are compared seed by seed and the
interval is that of the differences.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rather.stats import student_t, wilson

Rows = Mapping[str, Mapping[str, float]]
"""Cell (an arm under a condition) -> metric -> value, for one seed."""


@dataclass(frozen=True)
class Finding:
    """Whether a criterion holds, and the numbers that say so."""

    holds: bool
    found: str


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with a 95% interval.

    Attributes:
        what: what was estimated, in words.
        mean: mean over seeds; for a ratio the geometric mean of the seeds' ratios.
        error: standard error of the mean; NaN for one seed, and for ratios and shares, whose intervals are lopsided.
        low, high: ends of the interval; infinite for one seed, so that one seed never decides anything.
        seeds: how many.
    """

    what: str
    mean: float
    error: float
    low: float
    high: float
    seeds: int

    def text(self) -> str:
        if not math.isfinite(self.high - self.low):
            return f"{self.what}: {self.mean:.3g} (no interval)"
        return f"{self.what}: {self.mean:.3g} ({self.low:.3g} to {self.high:.3g})"

    def above(self, bound: float) -> Finding:
        """Holds when the whole interval lies above ``bound``."""
        return Finding(self.low > bound, f"{self.text()}, asked above {bound:.3g}")

    def below(self, bound: float) -> Finding:
        """Holds when the whole interval lies below ``bound``."""
        return Finding(self.high < bound, f"{self.text()}, asked below {bound:.3g}")

    def within(self, low: float, high: float) -> Finding:
        """Holds when the whole interval lies between the bounds: equal up to that tolerance."""
        return Finding(low <= self.low and self.high <= high, f"{self.text()}, asked {low:.3g} to {high:.3g}")


def estimate(values: Sequence[float], what: str = "") -> Estimate:
    """Mean of one number a seed, with the t-interval of its mean."""
    mean = statistics.fmean(values)
    if len(values) < 2 or not all(map(math.isfinite, values)):
        return Estimate(what, mean, math.nan, -math.inf, math.inf, len(values))
    error = statistics.stdev(values) / math.sqrt(len(values))
    half = student_t(len(values) - 1) * error
    return Estimate(what, mean, error, mean - half, mean + half, len(values))


def every(*findings: Finding) -> Finding:
    """Holds when all of them do."""
    return Finding(all(one.holds for one in findings), "; ".join(one.found for one in findings))


def some(*findings: Finding) -> Finding:
    """Holds when one of them does."""
    return Finding(any(one.holds for one in findings), "; ".join(one.found for one in findings))


@dataclass(frozen=True)
class Results:
    """Every seed's rows.

    Attributes:
        seeds: the seeds, in order.
        rows: one ``Rows`` a seed.
        settings: the settings they were run with, for criteria and plots that need a name or number from them.
    """

    seeds: tuple[int, ...]
    rows: tuple[Rows, ...]
    settings: Any = None

    @property
    def cells(self) -> list[str]:
        return list(self.rows[0])

    @property
    def metrics(self) -> list[str]:
        return list(dict.fromkeys(metric for values in self.rows[0].values() for metric in values))

    def has(self, cell: str, metric: str) -> bool:
        return metric in self.rows[0].get(cell, {})

    def values(self, cell: str, metric: str) -> list[float]:
        """One value a seed."""
        return [rows[cell][metric] for rows in self.rows]

    def mean(self, cell: str, metric: str) -> Estimate:
        """The mean of a cell over seeds."""
        return estimate(self.values(cell, metric), f"{metric} of {cell}")

    def difference(self, one: str, other: str, metric: str, other_metric: str | None = None) -> Estimate:
        """Mean over seeds of ``one - other``, paired by seed; ``other_metric`` when the other's metric differs."""
        pairs = self._pairs(one, other, metric, other_metric)
        return estimate([a - b for a, b in pairs], _versus(one, "minus", other, metric, other_metric))

    def ratio(self, one: str, other: str, metric: str, other_metric: str | None = None) -> Estimate:
        """Geometric mean over seeds of ``one / other``, paired by seed, with the interval of the mean logarithm.

        Raises:
            ValueError: a value is not positive.
        """
        pairs = self._pairs(one, other, metric, other_metric)
        if min(min(pair) for pair in pairs) <= 0:
            raise ValueError(f"a ratio needs positive values: {metric} of {one} and {other}")
        logs = estimate([math.log(a) - math.log(b) for a, b in pairs])
        what = _versus(one, "over", other, metric, other_metric)
        high = math.exp(logs.high) if logs.high < 700 else math.inf
        return Estimate(what, math.exp(logs.mean), math.nan, math.exp(logs.low), high, logs.seeds)

    def share(self, what: str, test: Callable[[Rows], bool]) -> Estimate:
        """Share of the seeds whose rows pass a test, with its Wilson interval."""
        passed, count = sum(bool(test(rows)) for rows in self.rows), len(self.rows)
        return Estimate(f"share of seeds with {what}", passed / count, math.nan, *wilson(passed, count), count)

    def over(self, what: str, number: Callable[[Rows], float]) -> Estimate:
        """Mean over seeds of any number made from one seed's rows."""
        return estimate([number(rows) for rows in self.rows], what)

    def _pairs(self, one: str, other: str, metric: str, other_metric: str | None) -> list[tuple[float, float]]:
        return list(zip(self.values(one, metric), self.values(other, other_metric or metric), strict=True))


def _versus(one: str, word: str, other: str, metric: str, other_metric: str | None) -> str:
    if other_metric is None or other_metric == metric:
        return f"{metric}, {one} {word} {other}"
    return f"{metric} of {one} {word} {other_metric} of {other}"
