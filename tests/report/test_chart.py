"""Charts: the drawing says what the data says."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rather.report.chart import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Chart, Line, svg, table, tick_labels, ticks
from rather.report.series import Series


def chart(values: list[float], **options: object) -> Chart:
    series = Series("loss", "train", np.arange(1, len(values) + 1, dtype=float), np.asarray(values, dtype=float))
    return Chart("c", "Loss <b>", "nats", [Line("training", series, 0)], **options)  # type: ignore[arg-type]


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_round_and_inside(low: float, span: float) -> None:
    span += 1e-6 * abs(low)  # a chart's axis is never narrower
    found = ticks(low, low + span)
    assert 2 <= len(found) <= 8
    assert all(low - 1e-3 * span <= tick <= low + span * (1 + 1e-3) for tick in found)


@given(st.lists(st.floats(-1e9, 1e9) | st.sampled_from([math.nan, math.inf]), min_size=1, max_size=200))
@example([0.0, 5e-324])
@example([2e-323, 1e-310])
def test_any_values_draw_inside_the_frame(values: list[float]) -> None:
    root = ET.fromstring(svg(chart(values)))
    assert root.tag == "svg"
    for part in root.iter("path"):
        if "gap" in part.get("class", ""):
            continue
        numbers = re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", part.get("d", ""))
        for x, y in numbers:
            assert LEFT - 0.1 <= float(x) <= WIDTH - RIGHT + 0.1
            assert TOP - 0.1 <= float(y) <= HEIGHT - BOTTOM + 0.1


def test_ticks_keep_their_labels_apart() -> None:
    assert tick_labels([2.0790, 2.0791, 2.0792]) == ["2.079", "2.0791", "2.0792"]
    assert tick_labels([0.0, 0.5, 1.0]) == ["0", "0.5", "1"]
    assert tick_labels([]) == []


def test_points_are_where_the_values_are() -> None:
    root = ET.fromstring(svg(chart([0.0, 1.0], bounds=(0.0, 1.0))))
    first, last = root.findall("circle")
    assert (float(first.get("cx", "")), float(first.get("cy", ""))) == (LEFT, HEIGHT - BOTTOM)
    assert (float(last.get("cx", "")), float(last.get("cy", ""))) == (WIDTH - RIGHT, TOP)


def test_gaps_lift_the_pen_and_are_marked() -> None:
    root = ET.fromstring(svg(chart([1.0, 2.0, math.nan, 3.0, 4.0])))
    line = next(part for part in root.findall("path") if part.get("class") == "l1")
    assert line.get("d", "").count("M") == 2
    assert len([part for part in root.findall("path") if part.get("class") == "gap"]) == 1


def test_title_is_escaped_and_description_tells_the_course() -> None:
    root = ET.fromstring(svg(chart([0.7, 0.5, 0.6])))
    assert root.findtext("title") == "Loss <b>"
    description = root.findtext("desc") or ""
    assert description == "training: 0.7 at step 1, 0.6 at step 3; least 0.5, greatest 0.7."


def test_a_log_axis_is_logarithmic() -> None:
    root = ET.fromstring(svg(chart([1.0, 10.0, 100.0], log=True)))
    ys = [float(part.get("cy", "")) for part in root.findall("circle")]
    assert ys[0] - ys[1] == pytest.approx(ys[1] - ys[2], abs=0.2)


def test_table_has_ends_and_every_rare_step() -> None:
    train = Series("loss", "train", np.arange(1, 1001, dtype=float), np.linspace(1, 0, 1000))
    held = Series("loss", "eval", np.array([333.0, 777.0]), np.array([0.9, 0.8]))
    header, rows = table(Chart("c", "Loss", "", [Line("training", train, 0), Line("held out", held, 4)]))
    assert header == ["Step", "training", "held out"]
    steps = [row[0] for row in rows]
    assert steps[0] == "1"
    assert steps[-1] == "1,000"
    assert rows[steps.index("333")][2] == "0.9"
    assert len(rows) <= 30
