"""Metrics as series, thinned for display.

A curve of a hundred thousand points is drawn from at most a few hundred: each bucket of steps keeps its least and its
greatest value, so that no spike is lost, and a running mean shows the course.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rather.report.numbers import number

BUCKETS = 240
"""Buckets a drawn curve is thinned to (up to two points each)."""

SMOOTH_FROM = 40
"""Curves with fewer points are drawn as they are, without a running mean."""


@dataclass(frozen=True)
class Series:
    """One metric of one split.

    Attributes:
        steps: [N] optimizer steps, ascending.
        values: [N] values; not-a-number where the metric was not finite.
    """

    key: str
    split: str
    steps: np.ndarray
    values: np.ndarray

    @property
    def finite(self) -> np.ndarray:
        return np.isfinite(self.values)

    @property
    def not_finite(self) -> int:
        """How many logged values are NaN or infinite."""
        return int((~self.finite).sum())

    def ends(self) -> tuple[float, float] | None:
        """Mean of the first and of the last tenth of the finite values (at least one value each)."""
        values = self.values[self.finite]
        if not len(values):
            return None
        window = max(1, len(values) // 10)
        return float(values[:window].mean()), float(values[-window:].mean())


def keys(metrics: Iterable[Mapping[str, Any]]) -> list[str]:
    """Every numeric key, in the order of first appearance."""
    found: dict[str, None] = {}
    for row in metrics:
        for key, value in row.items():
            if key not in found and number(value) is not None:
                found[key] = None
    return list(found)


def series(metrics: Iterable[Mapping[str, Any]], key: str, split: str) -> Series | None:
    """The metric ``key`` of ``split``, or ``None`` when it was never logged there. ``null`` counts as not-a-number."""
    points: dict[float, float] = {}
    for row in metrics:
        if row.get("split", "train") != split or key not in row:
            continue
        step = number(row.get("step"))
        value = math.nan if row[key] is None else number(row[key])
        if step is not None and math.isfinite(step) and value is not None:
            points[step] = value
    if not points:
        return None
    steps = np.array(sorted(points))
    return Series(key, split, steps, np.array([points[step] for step in steps]))


def combine(parts: Sequence[Series], key: str, rule: Any) -> Series | None:
    """A series computed from others at the steps they share."""
    if not parts:
        return None
    common = parts[0].steps
    for part in parts[1:]:
        common = np.intersect1d(common, part.steps)
    if not len(common):
        return None
    columns = [part.values[np.searchsorted(part.steps, common)] for part in parts]
    with np.errstate(all="ignore"):
        return Series(key, parts[0].split, common, rule(*columns))


def thin(curve: Series, buckets: int = BUCKETS) -> Series:
    """At most ``2 * buckets`` points: the least and greatest finite value of each bucket, NaN for one without."""
    total = len(curve.steps)
    if total <= 2 * buckets:
        return curve
    keep: list[int] = []
    for part in np.array_split(np.arange(total), buckets):
        finite = part[curve.finite[part]]
        if not len(finite):
            keep.append(int(part[0]))
            continue
        low = int(finite[np.argmin(curve.values[finite])])
        high = int(finite[np.argmax(curve.values[finite])])
        keep += sorted({low, high})
    index = np.array(keep)
    return Series(curve.key, curve.split, curve.steps[index], curve.values[index])


def running_mean(curve: Series, share: float = 0.05, geometric: bool = False) -> Series | None:
    """Mean over ``share`` of the finite points around each (at least five; fewer at the ends).

    ``None`` for a curve too short for one. ``geometric`` is for curves on a logarithmic axis.
    """
    mask = curve.finite
    steps, values = curve.steps[mask], curve.values[mask]
    if len(values) < SMOOTH_FROM:
        return None
    half = max(2, int(share * len(values)) // 2)
    total = np.concatenate([[0.0], np.cumsum(np.log(values) if geometric else values)])
    at = np.arange(len(values))
    first, last = np.maximum(at - half, 0), np.minimum(at + half + 1, len(values))
    mean = (total[last] - total[first]) / (last - first)
    mean = np.exp(mean) if geometric else mean
    index = np.unique(np.linspace(0, len(values) - 1, min(len(values), BUCKETS)).round().astype(int))
    return Series(curve.key, curve.split, steps[index], mean[index])
