"""Estimates over seeds: intervals, paired comparisons, and what one seed may decide."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rather.stats import student_t
from rather.studies.results import Results, estimate, every, some

RESULTS = Results(
    (0, 1, 2),
    (
        {"a": {"error": 1.0}, "b": {"error": 2.0, "gap": 1.0}},
        {"a": {"error": 2.0}, "b": {"error": 5.0, "gap": 2.0}},
        {"a": {"error": 3.0}, "b": {"error": 8.0, "gap": 4.0}},
    ),
)


@pytest.mark.parametrize(
    ("degrees", "expected"), [(1, 12.7062), (2, 4.30265), (3, 3.18245), (4, 2.77645), (9, 2.26216), (1000, 1.96234)]
)
def test_quantiles_of_t(degrees: int, expected: float) -> None:
    assert student_t(degrees) == pytest.approx(expected, abs=5e-6 * expected)
    assert student_t(degrees, 0.5) < student_t(degrees, 0.9) < student_t(degrees)


def test_mean_and_interval() -> None:
    found = RESULTS.mean("a", "error")
    assert (found.mean, found.error, found.seeds) == (2.0, pytest.approx(1 / math.sqrt(3)), 3)
    assert found.high - found.mean == pytest.approx(4.30265 / math.sqrt(3), rel=1e-5)


def test_differences_are_paired() -> None:
    found = RESULTS.difference("b", "a", "error")
    assert found.mean == 3.0
    assert found.error == pytest.approx(2 / math.sqrt(3))  # differences 1, 3, 5
    assert RESULTS.difference("a", "b", "error", "gap").mean == pytest.approx(-1 / 3)


def test_ratio_is_geometric_and_its_interval_lopsided() -> None:
    found = RESULTS.ratio("b", "b", "error", "gap")
    assert found.mean == pytest.approx((2 * 2.5 * 2) ** (1 / 3))
    assert found.low * found.high == pytest.approx(found.mean**2)
    same = RESULTS.ratio("a", "a", "error")
    assert (same.low, same.mean, same.high) == (1.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="positive"):
        Results((0,), ({"a": {"x": 0.0}, "b": {"x": 1.0}},)).ratio("a", "b", "x")


def test_a_finding_needs_the_whole_interval() -> None:
    wide = estimate([0.0, 1.0, 2.0])  # -1.48 to 3.48
    assert not wide.above(0.0).holds
    assert not wide.below(3.0).holds
    assert wide.above(-1.5).holds
    assert wide.within(-1.5, 3.5).holds
    assert not wide.within(-1.4, 3.5).holds


def test_one_seed_decides_nothing() -> None:
    single = Results((0,), ({"a": {"x": 5.0}, "b": {"x": 1.0}},))
    for found in (single.mean("a", "x"), single.difference("a", "b", "x"), single.ratio("a", "b", "x")):
        assert not found.above(1e-9).holds
        assert not found.below(1e9).holds
        assert "no interval" in found.text()


def test_a_number_that_is_not_finite_decides_nothing() -> None:
    found = estimate([1.0, math.inf])
    assert not found.above(0.0).holds
    assert not found.below(0.0).holds


def test_share_of_seeds() -> None:
    found = RESULTS.share("b behind", lambda rows: rows["b"]["error"] > 4)
    assert found.mean == pytest.approx(2 / 3)
    assert 0.2 < found.low < 0.25 and 0.9 < found.high < 0.95  # Wilson, 2 of 3


def test_findings_combine() -> None:
    yes, no = estimate([1.0, 1.0]).above(0.0), estimate([1.0, 1.0]).above(2.0)
    assert (every(yes, no).holds, every(yes, yes).holds, some(yes, no).holds, some(no, no).holds) == (
        False,
        True,
        True,
        False,
    )


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=9), st.floats(-1e3, 1e3))
def test_a_shift_moves_the_interval(values: list[float], shift: float) -> None:
    before, after = estimate(values), estimate([value + shift for value in values])
    assert after.low == pytest.approx(before.low + shift, abs=1e-8)
    assert after.high == pytest.approx(before.high + shift, abs=1e-8)
