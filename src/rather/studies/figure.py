"""Pictures of a study's results, in the colours of the report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

from rather.report.theme import LIGHT
from rather.studies.base import Study
from rather.studies.results import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINES = ("line-1", "line-2", "line-3", "good", "note-rule", "soft")
MARKERS = ("o", "s", "^", "D", "v", "P")
MOST_PANELS = 6
MOST_TICKS = 8


def picture(study: Study, results: Results, colours: Mapping[str, str] = LIGHT) -> bytes:
    """The study's plot as PNG, in a theme's colours."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(style(colours)):
        figure = Figure(figsize=(9, 4.5), dpi=110, layout="constrained")
        FigureCanvasAgg(figure)
        (study.plot or _panels(study))(results, figure)
        buffer = BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def style(colours: Mapping[str, str]) -> dict[Any, Any]:
    """Settings of matplotlib for a theme's colours."""
    from cycler import cycler

    ink, soft, page = colours["ink"], colours["soft"], colours["page"]
    cycle = cycler(color=[colours[name] for name in LINES]) + cycler(marker=list(MARKERS))
    return {
        "axes.prop_cycle": cycle,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlesize": 10,
        "axes.labelsize": 9,
        "xtick.labelsize": 9,
        "ytick.labelsize": 9,
        "legend.fontsize": 9,
        "legend.frameon": False,
        "figure.facecolor": page,
        "axes.facecolor": page,
        "savefig.facecolor": page,
        "text.color": ink,
        "axes.labelcolor": ink,
        "axes.titlecolor": ink,
        "axes.edgecolor": soft,
        "xtick.color": soft,
        "ytick.color": soft,
        "grid.color": colours["rule"],
    }


def _panels(study: Study) -> Any:
    def draw(results: Results, figure: Figure) -> None:
        metrics = [metric for metric in study.metrics if metric in results.metrics][:MOST_PANELS]
        columns = min(3, len(metrics))
        lines = math.ceil(len(metrics) / columns)
        figure.set_size_inches(3.2 * columns + 1, lines * (1 + 0.28 * len(results.cells)))
        panels = figure.subplots(lines, columns, squeeze=False)
        for metric, axes in zip(metrics, panels.flat, strict=False):
            bars(axes, results, metric)
            axes.set_title(metric)
        for axes in panels.flat[len(metrics) :]:
            axes.set_axis_off()

    return draw


def bars(axes: Axes, results: Results, metric: str, cells: Sequence[str] | None = None) -> None:
    """One horizontal bar a cell with its 95% interval; cells without the metric are left out."""
    shown = [cell for cell in cells or results.cells if results.has(cell, metric)]
    means, halves = _drawn(results, metric, shown)
    axes.barh(shown, means, height=0.6)
    axes.errorbar(means, shown, xerr=halves, fmt="none", ecolor=axes.xaxis.label.get_color(), capsize=2)
    axes.invert_yaxis()


def lines(
    axes: Axes, results: Results, metric: str, series: Mapping[str, Mapping[Any, str]], *, log: str = ""
) -> None:
    """One line for each entry of ``series`` (label -> x -> cell), with 95% intervals and a tick at each x.

    ``log`` names the logarithmic axes: ``"x"``, ``"y"`` or ``"xy"``.
    """
    for label, points in series.items():
        means, halves = _drawn(results, metric, list(points.values()))
        axes.errorbar(list(points), means, yerr=halves, label=label, capsize=2, markersize=4)
    axes.set(xscale="log" if "x" in log else "linear", yscale="log" if "y" in log else "linear")
    ticks = sorted({x for points in series.values() for x in points})
    if len(ticks) <= MOST_TICKS:
        axes.set_xticks(ticks, [f"{x:,g}" if x < 1e6 else f"{x:g}" for x in ticks])
        axes.set_xticks([], minor=True)
    axes.legend()


def _drawn(results: Results, metric: str, cells: Sequence[str]) -> tuple[list[float], list[float]]:
    """Means and half widths of the intervals; what is not finite is not drawn."""
    found = [results.mean(cell, metric) for cell in cells]
    means = [one.mean if math.isfinite(one.mean) else math.nan for one in found]
    return means, [(one.high - one.low) / 2 if math.isfinite(one.high - one.low) else 0.0 for one in found]
