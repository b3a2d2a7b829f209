"""The picture of a method: loss and push against the margin, beside DPO."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rather.methods.base import Method
from rather.methods.curve import Point, curve
from rather.methods.dpo import METHOD as DPO

OWN, LIGHT, PLAIN = "#1f6feb", "#d1741f", "#8b949e"


def plot(method: Method, path: Path, options: Mapping[str, Any] | None = None, reach: float = 8.0) -> None:
    """Write the picture of a method to ``path`` (format by its suffix).

    Methods differ by orders of magnitude (IPO divides by beta squared), so both panels are in units of each method's
    own push at z = 0; where that is 0, in units of the largest one shown.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    margins = [reach * step / 200 for step in range(-200, 201)]
    own, dpo = curve(method, margins, options), curve(DPO, margins)
    unit, dpo_unit = _unit(own), _unit(dpo)
    figure = Figure(figsize=(10, 4.2), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    losses, pushes = figure.subplots(1, 2)
    losses.plot(margins, _height(dpo, dpo_unit), color=PLAIN, linestyle="--", label="dpo")
    pushes.plot(margins, [point.push / dpo_unit for point in dpo], color=PLAIN, linestyle="--", label="dpo")
    if method.name != DPO.name or options:
        name = " ".join([method.name, *(f"{key}={value}" for key, value in (options or {}).items())])
        losses.plot(margins, _height(own, unit), color=OWN, label=name)
        _draw_pushes(pushes, margins, own, unit)
    losses.set_title(f"{method.name}: loss, 0 at z = 0", fontsize=11)
    pushes.set_title("push on the margin (minus the gradient)", fontsize=11)
    for axes in (losses, pushes):
        axes.axhline(0, color="black", linewidth=0.6)
        axes.axvline(0, color="black", linewidth=0.6)
        axes.set_xlabel("scaled margin z of a pair (right: chosen ahead)")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=3)
    losses.set_ylabel("in units of the push at z = 0")
    figure.suptitle(method.equation, fontsize=10, parse_math=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    figure.savefig(partial)
    partial.replace(path)


def _draw_pushes(axes: Any, margins: list[float], points: list[Point], unit: float) -> None:
    chosen, rejected = [p.chosen / unit for p in points], [p.rejected / unit for p in points]
    if max(abs(a - b) for a, b in zip(chosen, rejected, strict=True)) < 1e-9:
        axes.plot(margins, chosen, color=OWN, label="both ends")
        return
    axes.plot(margins, chosen, color=OWN, label="chosen up")
    axes.plot(margins, rejected, color=LIGHT, label="rejected down")


def _unit(points: list[Point]) -> float:
    at_zero = abs(min(points, key=lambda point: abs(point.margin)).push)
    return at_zero or max(abs(point.push) for point in points) or 1.0


def _height(points: list[Point], unit: float) -> list[float]:
    at_zero = min(points, key=lambda point: abs(point.margin)).loss
    return [(point.loss - at_zero) / unit for point in points]
