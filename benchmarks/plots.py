"""The page's pictures, each once for the light and once for the dark theme, as SVG."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import compare
from rather.report.theme import DARK, LIGHT
from rather.studies.figure import style
from rather.training.record import write_text

Draw = Callable[[Any], None]
"""Draws into a matplotlib figure."""


def save(folder: Path, name: str, size: tuple[float, float], draw: Draw) -> str:
    """Write ``NAME-light.svg`` and ``NAME-dark.svg``; returns the Markdown that shows the fitting one."""
    import matplotlib
    from matplotlib.figure import Figure

    shown = []
    for theme, colours in (("light", LIGHT), ("dark", DARK)):
        # A fixed salt and no date: the same numbers give the same file.
        extra: dict[Any, Any] = {"svg.hashsalt": name, "svg.fonttype": "none", "font.family": "sans-serif"}
        with matplotlib.rc_context({**style(colours), **extra}):
            figure = Figure(figsize=size, layout="constrained")
            draw(figure)
            buffer = StringIO()
            figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
        # Trailing blanks of the writer would be noise in every diff.
        text = "\n".join(line.rstrip() for line in buffer.getvalue().splitlines())
        write_text(folder / f"{name}-{theme}.svg", text + "\n")
        shown.append(f"![{name}]({folder.name}/{name}-{theme}.svg#only-{theme})")
    return "\n".join(shown)


def peers(found: Mapping[str, Any], clock: str) -> Draw:
    """Bars: how many times the peer's time is ours, by case."""
    from matplotlib.patches import Patch

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        names = [case["title"] for case in found["cases"]]
        for number, peer in enumerate(("trl best", "trl default")):
            for place, case in enumerate(found["cases"]):
                if peer not in case["results"]:
                    continue
                spread = compare.ratios(
                    case["results"]["rather"],
                    case["results"][peer],
                    lambda result: compare.step_seconds(result, clock, found["warmup"]),
                )
                error = [[spread.median - spread.least], [spread.most - spread.median]]
                (bar,) = axes.barh(
                    place + 0.36 * number, spread.median, height=0.34, color=f"C{number}", xerr=error,
                    ecolor=axes.xaxis.label.get_color(),
                )  # fmt: skip
                axes.annotate(f" {spread.median:.1f}", (spread.most, bar.get_y() + 0.17), va="center", fontsize=8)
        axes.set_yticks(np.arange(len(names)) + 0.18, names)
        axes.axvline(1, color=axes.xaxis.label.get_color(), linewidth=0.8, linestyle=":")
        axes.invert_yaxis()
        axes.set_xlabel("time of a step, TRL over rather (bars: median of the repeats; lines: least and most)")
        labels = ("TRL at its best", "TRL as it comes")
        patches = [Patch(color=f"C{number}", label=label) for number, label in enumerate(labels)]
        axes.legend(handles=patches, loc="lower right")

    return draw


def curves(found: Mapping[str, Any]) -> Draw:
    """Both loss curves, and their difference on a scale of its own."""

    def draw(figure: Any) -> None:
        left, right = figure.subplots(1, 2)
        losses = {name: np.array([step["loss"] for step in each["steps"]]) for name, each in found["results"].items()}
        steps = np.arange(1, len(losses["rather"]) + 1)
        left.plot(steps, losses["trl best"], label="TRL", color="C0", linewidth=3, alpha=0.5, marker="")
        left.plot(steps, losses["rather"], label="rather", color="C1", linewidth=1, marker="")
        left.set(xlabel="step", ylabel="loss")
        left.legend()
        off = np.abs(losses["rather"] - losses["trl best"])
        right.semilogy(steps, np.maximum(off, 1e-9), color="C2", marker="")
        right.axhline(found["tolerance"], color=right.xaxis.label.get_color(), linestyle=":", linewidth=1)
        right.annotate("tolerance", (steps[0], found["tolerance"]), va="bottom", fontsize=8)
        right.set(xlabel="step", ylabel="absolute difference")

    return draw


def growth(found: Mapping[str, Any]) -> Draw:
    """Time and memory against each axis, on logarithmic scales, with the fitted exponents."""

    def draw(figure: Any) -> None:
        axes = found["axes"]
        panels = figure.subplots(2, len(axes), squeeze=False)
        for column, axis in enumerate(axes.values()):
            for row, (name, unit) in enumerate((("cpu", "CPU s per step"), ("memory", "MB above the model"))):
                panel = panels[row, column]
                for form, points in axis["forms"].items():
                    label = f"{form}: {axis['slopes'][form][name]:.2f}"
                    panel.loglog(axis["sizes"], [point[name] for point in points], label=label, markersize=4)
                panel.legend(title="exponent", title_fontsize=8)
                panel.set_xticks(axis["sizes"], [f"{size:,}" for size in axis["sizes"]], fontsize=7)
                panel.set_xticks([], minor=True)
                panel.set_xlabel(axis["title"] if row else "")
                panel.set_ylabel(unit if column == 0 else "")

    return draw


def ablation(rows: list[tuple[str, float, float]]) -> Draw:
    """Bars of CPU seconds per pair and of memory for each rung; ``rows``: (title, seconds, MB)."""

    def draw(figure: Any) -> None:
        panels = figure.subplots(1, 2, sharey=True)
        titles = [title for title, _, _ in rows]
        for panel, column, label in zip(panels, (1, 2), ("CPU s per pair", "MB above the model"), strict=True):
            values = [row[column] for row in rows]
            panel.barh(titles, values, color=f"C{column - 1}", height=0.6)
            for place, value in enumerate(values):
                panel.annotate(f" {value:,.2f}" if column == 1 else f" {value:,.0f}", (value, place), va="center",
                               fontsize=8)  # fmt: skip
            panel.set_xlabel(label)
            panel.margins(x=0.15)
        panels[0].invert_yaxis()

    return draw
