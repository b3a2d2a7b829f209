"""The reliability diagram of a reward model: how often it is right, by how sure it is."""

from __future__ import annotations

from html import escape
from typing import Any

from markupsafe import Markup

from rather.report.numbers import percent, shown
from rather.report.run_folder import RunFolder
from rather.stats import wilson

WIDTH, HEIGHT = 480, 300
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 10, 44
LOW, HIGH = 0.5, 1.0
"""Confidence runs from a coin's to certainty; the share of right orders is drawn from 0 to 1."""


def section(run: RunFolder) -> dict[str, Any] | None:
    """Drawing, table and words on the trained model's calibration (of the untrained one's while there is no other);
    ``None`` where it was not measured."""
    sides = [(when, run.evaluation.get(when)) for when in ("after", "before")]
    found = [
        (when, side) for when, side in sides if isinstance(side, dict) and isinstance(side.get("calibration"), dict)
    ]
    if not found:
        return None
    when, side = found[0]
    bins = [row for row in side["calibration"].get("bins", []) if row.get("n")]
    rows = [[percent(row["confidence"]), percent(row["right"]), _range(row), f"{row['n']:,}"] for row in bins]
    note = (
        f"{'After' if when == 'after' else 'Before'} training, on {sum(row['n'] for row in bins):,} held-out pairs. "
        f"On the line, a model that is 80% sure is right in 80% of cases; below it, it is too sure of itself. "
        f"Expected calibration error {shown(side['calibration_error'])}, log-loss {shown(side['log_loss'])} "
        "(0.693 for a coin). Bars are 95% intervals, dots as large as their bins."
    )
    header = ["Confidence", "Right", "95% interval", "Pairs"]
    return {"svg": Markup(svg(bins)), "note": note, "header": header, "rows": rows}


def _range(row: dict[str, Any]) -> str:
    low, high = wilson(row["right"] * row["n"], row["n"])
    return f"{percent(low).rstrip('%')} to {percent(high)}"


def svg(bins: list[dict[str, Any]]) -> str:
    """Bins (number, mean confidence, share right) as an SVG element."""
    said = "; ".join(
        f"{percent(row['confidence'])} sure, {percent(row['right'])} right ({row['n']:,} pairs)" for row in bins
    )
    parts = [_grid(), _ideal()]
    most = max((row["n"] for row in bins), default=1)
    for row in bins:
        x, y = _x(row["confidence"]), _y(row["right"])
        low, high = (_y(bound) for bound in wilson(row["right"] * row["n"], row["n"]))
        parts.append(f'<path class="l1" d="M{x:.1f} {low:.1f}L{x:.1f} {high:.1f}"/>')
        parts.append(f'<circle class="l1" cx="{x:.1f}" cy="{y:.1f}" r="{2.5 + 4 * (row["n"] / most) ** 0.5:.1f}"/>')
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="calibration-t calibration-d">'
        f'<title id="calibration-t">Share of pairs in the right order, by confidence</title>'
        f'<desc id="calibration-d">{escape(said)}</desc>{"".join(parts)}'
        f'<text class="unit" x="{LEFT}" y="{HEIGHT - 6}">confidence (horizontal), share right (vertical)</text></svg>'
    )


def _x(confidence: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * (confidence - LOW) / (HIGH - LOW)


def _y(share: float) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - share)


def _grid() -> str:
    parts = []
    for tick in range(0, 101, 25):
        y = _y(tick / 100)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick}%</text>')
    floor = HEIGHT - BOTTOM
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{floor}" y2="{floor}"/>')
    for tick in range(50, 101, 10):
        x = _x(tick / 100)
        anchor = "end" if tick == 100 else "middle"
        parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{floor}" y2="{floor + 4}"/>')
        parts.append(f'<text x="{x:.1f}" y="{floor + 17}" text-anchor="{anchor}">{tick}%</text>')
    return "".join(parts)


def _ideal() -> str:
    ends = f'x1="{_x(LOW):.1f}" y1="{_y(LOW):.1f}" x2="{_x(HIGH):.1f}" y2="{_y(HIGH):.1f}"'
    return f'<line class="base" {ends}/>'
