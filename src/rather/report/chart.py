"""Line charts as inline SVG, drawn from data.

Colours come from the page's CSS variables, so one drawing serves both themes and print; lines differ by dash as well
as by colour. Every chart carries a title, a description and a table with the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np

from rather.report.numbers import shown
from rather.report.series import Series, running_mean, thin

WIDTH, HEIGHT = 480, 250
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 10, 38
STYLES = ((1, ""), (1, "7 4"), (2, "2.5 3"), (2, "10 3 2 3"), (3, "7 4"))
"""Colour (the CSS variable ``--line-1`` to ``--line-3``) and dash of each line style."""

TABLE_ROWS = 24

TINY = 1e-300
"""Nothing to a reader, and too near to zero to be divided into ticks."""


@dataclass(frozen=True)
class Line:
    """One curve. ``style`` indexes ``STYLES``; ``smooth`` draws a running mean over the faint raw curve."""

    label: str
    series: Series
    style: int
    smooth: bool = True


@dataclass(frozen=True)
class Chart:
    """Curves over the same steps.

    Attributes:
        name: unique in the page; an HTML id is made of it.
        unit: what the vertical axis counts.
        baseline: a horizontal line of reference with its meaning, e.g. ``(0.5, "chance")``.
        note: what the reader should know; shown under the chart.
        along: what the horizontal axis counts.
    """

    name: str
    title: str
    unit: str
    lines: Sequence[Line]
    baseline: tuple[float, str] | None = None
    bounds: tuple[float, float] | None = None
    note: str = ""
    log: bool = field(default=False)
    along: str = "step"


def legend_sample(style: int) -> str:
    """The line of a legend entry, as SVG."""
    colour, dash = _style(style)
    return (
        f'<svg class="sample" width="34" height="10" viewBox="0 0 34 10" aria-hidden="true" focusable="false">'
        f'<line class="l{colour}" x1="0" y1="5" x2="34" y2="5"{dash}/></svg>'
    )


def _style(style: int) -> tuple[int, str]:
    """Colour number and dash attribute of a line style."""
    colour, dash = STYLES[style]
    return colour, f' stroke-dasharray="{dash}"' if dash else ""


def describe(chart: Chart) -> str:
    """The chart in words: where each curve starts, ends and how far it ranges."""
    parts = []
    for line in chart.lines:
        mask = line.series.finite
        steps, values = line.series.steps[mask], line.series.values[mask]
        if not len(values):
            parts.append(f"{line.label}: no finite value.")
            continue
        if len(values) == 1:
            parts.append(f"{line.label}: {shown(float(values[0]))} at {chart.along} {steps[0]:.0f}.")
            continue
        parts.append(
            f"{line.label}: {shown(float(values[0]))} at {chart.along} {steps[0]:.0f}, {shown(float(values[-1]))} at "
            f"{chart.along} {steps[-1]:.0f}; least {shown(float(values.min()))}, greatest {shown(float(values.max()))}."
        )
        if line.series.not_finite:
            parts.append(f"{line.series.not_finite} value(s) not finite.")
    return " ".join(parts)


def table(chart: Chart) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the chart's data table: at most ``TABLE_ROWS`` steps, first and last among them."""
    every = np.unique(np.concatenate([line.series.steps for line in chart.lines]))
    chosen = every
    if len(every) > TABLE_ROWS:
        chosen = every[np.unique(np.linspace(0, len(every) - 1, TABLE_ROWS).round().astype(int))]
    rare = [line.series.steps for line in chart.lines if len(line.series.steps) <= TABLE_ROWS]
    chosen = np.unique(np.concatenate([chosen, *rare]))
    rows = []
    for step in chosen:
        row = [f"{step:,.0f}"]
        for line in chart.lines:
            at = int(np.searchsorted(line.series.steps, step))
            there = at < len(line.series.steps) and line.series.steps[at] == step
            row.append(shown(float(line.series.values[at])) if there else "")
        rows.append(row)
    return [chart.along.capitalize(), *(line.label for line in chart.lines)], rows


def ticks(low: float, high: float, wanted: int = 6) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten) within [low, high]."""
    rough = (high - low) / wanted
    size = 10.0 ** math.floor(math.log10(rough))
    step = size * next(factor for factor in (1, 2, 5, 10) if factor * size >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


def svg(chart: Chart) -> str:
    """The chart as an SVG element, to be put into the page as it is (all text escaped)."""
    frame = _Frame.around(chart)
    body = [_grid(frame)]
    if chart.baseline:
        body.append(_baseline(frame, *chart.baseline))
    for line in chart.lines:
        body.append(_curve(frame, line))
    body.append(_gaps(frame, chart.lines))
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-labelledby="{chart.name}-t {chart.name}-d">'
        f'<title id="{chart.name}-t">{escape(chart.title)}</title>'
        f'<desc id="{chart.name}-d">{escape(describe(chart))}</desc>{"".join(body)}'
        f'<text class="unit" x="{LEFT}" y="{HEIGHT - 4}">{chart.along}</text></svg>'
    )


@dataclass(frozen=True)
class _Frame:
    """From data to drawing: x from ``x0`` to ``x1``, y from ``y0`` to ``y1`` (logarithms of ten when ``log``)."""

    x0: float
    x1: float
    y0: float
    y1: float
    log: bool

    @classmethod
    def around(cls, chart: Chart) -> _Frame:
        steps = np.concatenate([line.series.steps for line in chart.lines])
        values = np.concatenate([line.series.values[line.series.finite] for line in chart.lines])
        if chart.log:
            values = np.log10(values)
        x0, x1 = float(steps.min()), float(steps.max())
        if x0 == x1:
            x0, x1 = x0 - 1, x1 + 1
        if chart.bounds:
            return cls(x0, x1, *chart.bounds, chart.log)
        y0, y1 = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
        # A curve that hardly moves is not blown up until rounding looks like a trend.
        flat = y1 - y0 <= max(1e-6 * max(abs(y0), abs(y1)), TINY)
        pad = (0.5 * abs(y0) if abs(y0) > TINY else 0.5) if flat else 0.06 * (y1 - y0)
        low = 0.0 if 0 <= y0 < 0.25 * y1 and not chart.log else y0 - pad
        return cls(x0, x1, low, y1 + pad, chart.log)

    def x(self, step: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (step - self.x0) / (self.x1 - self.x0)

    def y(self, value: float) -> float:
        value = math.log10(value) if self.log else value
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - (value - self.y0) / (self.y1 - self.y0))


def _grid(frame: _Frame) -> str:
    parts = []
    if frame.log:
        powers = [10.0**power for power in range(math.ceil(frame.y0), math.floor(frame.y1) + 1)]
        marks = powers if len(powers) > 1 else [10.0**power for power in ticks(frame.y0, frame.y1, 4)]
    else:
        marks = ticks(frame.y0, frame.y1)
    for value, label in zip(marks, tick_labels(marks), strict=True):
        y = frame.y(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{escape(label)}</text>')
    floor = HEIGHT - BOTTOM
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{floor}" y2="{floor}"/>')
    for value in ticks(frame.x0, frame.x1):
        if value < 0 or value != round(value):
            continue
        x = frame.x(value)
        anchor = "end" if x > WIDTH - RIGHT - 14 else "middle"
        parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{floor}" y2="{floor + 4}"/>')
        parts.append(f'<text x="{x:.1f}" y="{floor + 17}" text-anchor="{anchor}">{escape(_step_label(value))}</text>')
    return "".join(parts)


def tick_labels(marks: Sequence[float]) -> list[str]:
    """As few digits as keep the ticks apart, so that they fit the margin."""
    tried = [[_label(value, digits) for value in marks] for digits in range(4, 9)]
    return next((labels for labels in tried if len(set(labels)) == len(labels)), tried[-1])


def _label(value: float, digits: int) -> str:
    if value and (abs(value) >= 1e5 or abs(value) < 1e-3):
        text = f"{value:.{digits - 3}e}"
        return text.replace("e+0", "e").replace("e-0", "e-").replace(".0e", "e").replace("-", "\u2212")
    return shown(float(f"{value:.{digits + 2}g}"), digits)


def _step_label(value: float) -> str:
    return f"{value / 1000:,.4g}k" if value >= 10_000 else f"{value:,.0f}"


def _baseline(frame: _Frame, value: float, meaning: str) -> str:
    if not frame.y0 <= value <= frame.y1:
        return ""
    y = frame.y(value)
    return (
        f'<line class="base" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text class="base" x="{WIDTH - RIGHT}" y="{y - 4:.1f}" text-anchor="end">{escape(meaning)}</text>'
    )


def _curve(frame: _Frame, line: Line) -> str:
    colour, dash = _style(line.style)
    css = f"l{colour}"
    drawn = thin(line.series)
    mean = smooth(line, log=frame.log)
    parts = []
    if mean is None:
        parts.append(f'<path class="{css}" d="{_path(frame, drawn)}"{dash}/>')
    else:
        parts.append(f'<path class="{css} raw" d="{_path(frame, drawn)}"/>')
        parts.append(f'<path class="{css}" d="{_path(frame, mean)}"{dash}/>')
    if len(line.series.steps) <= 30:
        for step, value in zip(line.series.steps, line.series.values, strict=True):
            if math.isfinite(value):
                parts.append(f'<circle class="{css}" cx="{frame.x(step):.1f}" cy="{frame.y(value):.1f}" r="3"/>')
    return "".join(parts)


def smooth(line: Line, log: bool = False) -> Series | None:
    """The running mean that is drawn over a curve, when one is."""
    return running_mean(line.series, geometric=log) if line.smooth else None


def _path(frame: _Frame, curve: Series) -> str:
    """Path data; the pen is lifted where the curve is not finite."""
    parts, down = [], False
    for step, value in zip(curve.steps, curve.values, strict=True):
        if not math.isfinite(value):
            down = False
            continue
        parts.append(f"{'L' if down else 'M'}{frame.x(step):.1f} {frame.y(value):.1f}")
        down = True
    return "".join(parts)


def _gaps(frame: _Frame, lines: Sequence[Line]) -> str:
    """A cross on the axis at steps whose value is not finite (at most forty)."""
    steps = np.unique(np.concatenate([line.series.steps[~line.series.finite] for line in lines]))
    if len(steps) > 40:
        steps = steps[np.linspace(0, len(steps) - 1, 40).round().astype(int)]
    floor = HEIGHT - BOTTOM
    parts = []
    for step in steps:
        x = frame.x(step)
        parts.append(f'<path class="gap" d="M{x - 4:.1f} {floor - 4}l8 8m0 -8l-8 8"/>')
    return "".join(parts)
