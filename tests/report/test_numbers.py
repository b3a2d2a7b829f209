"""Numbers as text."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rather.report.numbers import duration, number, percent, shown, when


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.69314718, "0.6931"),
        (-141.234, "−141.2"),
        (1894, "1,894"),
        (0.0, "0"),
        (5e-6, "5e−06"),
        (123456.7, "123,457"),
        (12345678.0, "1.23e+07"),
        (math.nan, "NaN"),
        (-math.inf, "−∞"),
        (True, "yes"),
        (None, "–"),
        ("text", "text"),
        (100.0, "100"),
    ],
)
def test_shown(value: object, text: str) -> None:
    assert shown(value) == text


@given(st.floats(-1e300, 1e300))
def test_shown_keeps_four_digits(value: float) -> None:
    back = float(shown(value).replace("−", "-").replace(",", ""))
    assert back == pytest.approx(value, rel=6e-3, abs=1e-300)


def test_number_reads_what_json_cannot_say() -> None:
    assert math.isnan(number("NaN") or 0.0)
    assert number("-Infinity") == -math.inf
    assert number("three") is None
    assert number(True) is None


def test_percent_duration_when() -> None:
    assert percent(0.7349) == "73.5%"
    assert percent(-0.012) == "−1.2%"
    assert [duration(s) for s in (0.5, 48, 725, 12_000)] == ["0.5 s", "48 s", "12 min 5 s", "3 h 20 min"]
    assert when("2025-11-24T16:02:10+00:00") == "2025-11-24 16:02 UTC"
    assert when("yesterday") == "yesterday"
