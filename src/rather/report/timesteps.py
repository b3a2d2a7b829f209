"""What a denoising model has learned where: held-out numbers by timestep, as charts and as a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rather.report.chart import Chart, Line
from rather.report.numbers import number, shown
from rather.report.results import estimate
from rather.report.run_folder import RunFolder
from rather.report.series import Series

Bins = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Section:
    """Charts over timesteps, the same numbers as header and rows, and what they are."""

    note: str
    charts: list[Chart]
    table: tuple[list[str], list[list[str]]]


def section(run: RunFolder) -> Section | None:
    """Of the trained model (of the untrained one while there is no other); ``None`` for models without timesteps."""
    sides = ((when, run.evaluation.get(when)) for when in ("after", "before"))
    found = ((when, bins) for when, side in sides if (bins := _bins(side)))
    when, bins = next(found, ("", []))
    if not bins:
        return None
    pairs = sum(int(row.get("n", 0)) for row in bins)
    counted = f"{pairs:,} held-out pairs" if pairs else "held-out responses"
    note = (
        f"{when.capitalize()} training, on {counted}, each at one timestep; late timesteps are noisy. An error is the mean "
        "square of what a prediction is off. Few pairs share a timestep, so single bins are uncertain."
    )
    return Section(note, _charts(bins), _table(bins))


def _bins(side: Any) -> list[Mapping[str, Any]]:
    told = side.get("timesteps") if isinstance(side, Mapping) else None
    rows = told.get("bins") if isinstance(told, Mapping) else None
    return [row for row in rows or () if isinstance(row.get("from"), int) and isinstance(row.get("to"), int)]


def _charts(bins: Bins) -> list[Chart]:
    names = (
        ("chosen, policy", "error/chosen", 0),
        ("rejected, policy", "error/rejected", 2),
        ("chosen, reference", "reference/chosen", 1),
        ("rejected, reference", "reference/rejected", 3),
    )
    gained = [
        {**row, **{side: _value(row, f"error/{side}") - _value(row, f"reference/{side}") for side in _SIDES}}
        for row in bins
    ]
    found = [
        Chart("timesteps-error", "Denoising error", "mean square", _lines(bins, names), along="timestep"),
        Chart(
            "timesteps-change",
            "Error against the reference",
            "difference of mean squares",
            _lines(gained, (("chosen", "chosen", 0), ("rejected", "rejected", 2))),
            (0.0, "the reference"),
            note="Below zero: the policy denoises these better than the reference. A preference is learned where the "
            "chosen line lies below the rejected one.",
            along="timestep",
        ),
        Chart(
            "timesteps-accuracy",
            "Ranking accuracy",
            "share of pairs",
            _lines(bins, (("held out", "accuracy", 0),)),
            (0.5, "chance"),
            (0.0, 1.0),
            "Share of pairs whose chosen response has the higher implicit reward.",
            along="timestep",
        ),
        Chart(
            "timesteps-margin",
            "Reward margin",
            "reward",
            _lines(bins, (("held out", "margin", 0),)),
            (0.0, "no preference"),
            along="timestep",
        ),
    ]
    return [chart for chart in found if chart.lines]


_SIDES = ("chosen", "rejected")


def _value(row: Mapping[str, Any], name: str) -> float:
    found = number(row.get(name))
    return math.nan if found is None else found


def _lines(bins: Bins, names: Sequence[tuple[str, str, int]]) -> list[Line]:
    """One line for each name that has a number, through the middles of the bins."""
    middles = np.array([(row["from"] + row["to"] - 1) / 2 for row in bins])
    found = []
    for label, name, style in names:
        values = np.array([_value(row, name) for row in bins])
        there = np.isfinite(values)
        if there.any():
            found.append(Line(label, Series(name, "eval", middles[there], values[there]), style, smooth=False))
    return found


_COLUMNS = (
    ("Error, chosen", "error/chosen"),
    ("of the reference", "reference/chosen"),
    ("Error, rejected", "error/rejected"),
    ("of the reference", "reference/rejected"),
    ("Margin", "margin"),
)


def _table(bins: Bins) -> tuple[list[str], list[list[str]]]:
    columns = [(label, name) for label, name in _COLUMNS if any(name in row for row in bins)]
    ranked = any("accuracy" in row for row in bins)
    header = ["Timesteps", "Pairs", *(label for label, _ in columns), *(["Ranking accuracy"] if ranked else [])]
    rows = []
    for row in bins:
        cells = [f"{row['from']} to {row['to'] - 1}", shown(row.get("n"))]
        cells += [shown(_value(row, name)) if name in row else shown(None) for _, name in columns]
        rows.append(cells + ([_accuracy(row)] if ranked else []))
    return header, rows


def _accuracy(row: Mapping[str, Any]) -> str:
    found = estimate(row, "accuracy")
    if found is None:
        return shown(None)
    within = found.interval(share=True)
    return f"{found.text(share=True)} ({within})" if within else found.text(share=True)
