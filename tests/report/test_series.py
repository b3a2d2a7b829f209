"""Series: reading, thinning, smoothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rather.report.curves import charts, per_step
from rather.report.series import BUCKETS, Series, combine, running_mean, series, thin


def curve(values: list[float] | np.ndarray) -> Series:
    return Series("loss", "train", np.arange(1, len(values) + 1, dtype=float), np.asarray(values, dtype=float))


def test_series_splits_sorts_and_keeps_the_last_of_a_repeated_step() -> None:
    rows = [
        {"step": 2, "split": "train", "loss": 0.5},
        {"step": 1, "split": "train", "loss": 0.7},
        {"step": 1, "split": "eval", "loss": 9.0},
        {"step": 2, "split": "train", "loss": 0.4},
        {"step": 3, "split": "train", "loss": None},
        {"step": 4, "split": "train", "loss": "broken"},
        {"split": "train", "loss": 1.0},
    ]
    found = series(rows, "loss", "train")
    assert found is not None
    assert found.steps.tolist() == [1, 2, 3]
    assert found.values[:2].tolist() == [0.7, 0.4]
    assert found.not_finite == 1
    assert series(rows, "absent", "train") is None


@given(st.lists(st.floats(-1e6, 1e6) | st.just(math.nan), min_size=1, max_size=3000))
def test_thinning_keeps_extremes_and_order(values: list[float]) -> None:
    full = curve(values)
    thinned = thin(full)
    assert len(thinned.steps) <= 2 * BUCKETS
    assert (np.diff(thinned.steps) > 0).all()
    if full.finite.any():
        assert np.nanmin(thinned.values) == np.nanmin(full.values)
        assert np.nanmax(thinned.values) == np.nanmax(full.values)


@given(st.lists(st.floats(-100, 100), min_size=40, max_size=400))
def test_running_mean_stays_in_range(values: list[float]) -> None:
    mean = running_mean(curve(values))
    assert mean is not None
    assert mean.values.min() >= min(values) - 1e-6
    assert mean.values.max() <= max(values) + 1e-6


def test_running_mean_by_hand() -> None:
    values = np.arange(60, dtype=float) ** 2
    mean = running_mean(curve(values))
    assert mean is not None
    # 60 points, 5%: half a window of two on either side.
    assert mean.values[10] == pytest.approx(values[8:13].mean())
    assert mean.values[0] == pytest.approx(values[:3].mean())
    assert running_mean(curve(values[:39])) is None


def test_a_running_total_becomes_increments() -> None:
    steps = per_step(curve(np.cumsum([100.0] * 20)))
    assert steps.values.tolist() == [100.0] * 20
    noisy = curve(np.random.default_rng(0).normal(100, 5, 50))
    assert per_step(noisy) is noisy


def test_combine_uses_shared_steps_only() -> None:
    tokens, seconds = curve([10.0, 20.0, 30.0]), Series("s", "train", np.array([2.0, 3.0]), np.array([4.0, 0.0]))
    ratio = combine([tokens, seconds], "speed", np.divide)
    assert ratio is not None
    assert ratio.steps.tolist() == [2.0, 3.0]
    assert ratio.values[0] == 5.0
    assert ratio.not_finite == 1


def test_throughput_is_the_same_from_totals_and_from_increments() -> None:
    single = [{"step": i, "split": "train", "tokens": 500, "seconds": 2.0} for i in range(1, 30)]
    total = [{"step": i, "split": "train", "tokens": 500 * i, "seconds": 2.0 * i} for i in range(1, 30)]
    for rows in (single, total):
        speed = next(chart for chart in charts(rows)[0] if chart.name == "chart-speed")
        assert np.nanmax(speed.lines[0].series.values) == pytest.approx(250.0)
        assert np.nanmin(speed.lines[0].series.values) == pytest.approx(250.0)


def test_unknown_metrics_get_charts_of_their_own() -> None:
    rows = [
        {"step": i, "split": "train", "loss": 1.0 / i, "weight/entropy": i / 10, "constant": 3} for i in range(1, 9)
    ]
    known, other = charts(rows)
    assert [chart.title for chart in known] == ["Loss"]
    assert [chart.title for chart in other] == ["weight/entropy"]
