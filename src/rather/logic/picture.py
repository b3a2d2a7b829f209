"""The picture of the lattice of losses, with a formula's place in it."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

from rather.errors import UserError
from rather.logic.lattice import hasse_edges, place_of
from rather.logic.meaning import MEANINGS
from rather.logic.names import OTHER_ROWS, name_of, named
from rather.logic.notation import write
from rather.logic.printing import text_of
from rather.logic.questions import Said, structure_of
from rather.logic.structure import Structure

LEVELS = (
    ("CEUNL",),
    ("cUNL", "l20", "sCE", "l3"),
    ("fUNL", "CPO", "ORPO", "l5", "qfUNL", "CE"),
    ("l14", "cfUNL", "cCPO", "bCPO"),
    ("unCPO",),
)
"""From the strictest up. Exchanging the marks of TT and FF is a reflection, except for ORPO and l5, which it leaves."""

FILLS = {"Mw & ~Ml": "#f3d9d3", "Mw": "#f6e7c8", "~Ml": "#dbe5f1", "Ml -> Mw": "#e3efdd"}
"""Colour of each core formula."""
MARKED, LINE, GREY = "#b3261e", "#8b949e", "#57606a"
_SUFFIXES = (".png", ".svg", ".pdf")
_WIDE, _HIGH = 2.0, 1.6  # between neighbours, in inches


def draw(path: Path | str, marked: Said | None = None) -> None:
    """Write the lattice to ``path`` (format by its suffix): larger losses below, lines between nearest ones.

    Args:
        marked: a formula, structure, loss or method to show. One that is none of the sixteen is drawn beside them, with
            broken lines to the nearest stricter and looser ones.

    Raises:
        UserError: a formula that cannot be read, or an unknown format.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    path = Path(path)
    if path.suffix.lower() not in _SUFFIXES:
        raise UserError(f"no picture format {path.suffix!r}", where=str(path), fix=f"known: {', '.join(_SUFFIXES)}")
    structure = None if marked is None else structure_of(marked)
    beside = structure is not None and name_of(structure) is None
    wide, high = ((8.0 if beside else 6.4) * _WIDE, 4.9 * _HIGH)
    figure = Figure(figsize=(wide, high + 0.6), dpi=130)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, high / (high + 0.6)))
    axes.set_axis_off()
    axes.set_xlim(-3.2 * _WIDE, wide - 3.2 * _WIDE)
    axes.set_ylim(-0.5 * _HIGH, 4.4 * _HIGH)
    _lattice(axes, None if structure is None else place_of(structure).name)
    title = "losses by strictness: the strictest, with the largest loss, at the bottom"
    if structure is not None:
        title += f"\nmarked: {write(structure)}"
        if beside:
            _beside(axes, structure)
    figure.suptitle(title, fontsize=11, parse_math=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    figure.savefig(partial)
    partial.replace(path)


def _lattice(axes: Any, marked: str | None) -> None:
    points = positions()
    for one, other in hasse_edges():
        axes.plot(*zip(points[one], points[other], strict=True), color=LINE, linewidth=0.8, zorder=1)
    for name, point in points.items():
        both, neither = OTHER_ROWS[name]
        fill = FILLS[text_of(named()[name].core)]
        _node(axes, point, name, f"both {both}   neither {neither}", fill, marked=name == marked)
    for index, (core, fill) in enumerate(FILLS.items()):
        at = (-3 * _WIDE, (4 - 0.25 * index) * _HIGH)
        axes.text(*at, core, fontsize=9, va="center", bbox={"boxstyle": "round", "facecolor": fill, "edgecolor": LINE})
    axes.text(-3 * _WIDE, 0, _methods(), fontsize=8, color=GREY, va="center", parse_math=False)
    key = "when both or neither are accepted:\n✓ counts for, × against, ✓× on both sides, - not at all"
    axes.text(1.2 * _WIDE, 0, key, fontsize=8, color=GREY, va="center")


def _beside(axes: Any, structure: Structure) -> None:
    """A structure without a name, to the right of the lattice."""
    points, place, point = positions(), place_of(structure), (3.9 * _WIDE, 2.5 * _HIGH)
    near = (*place.stricter, *place.looser)
    for name in near:
        axes.plot(*zip(points[name], point, strict=True), color=MARKED, linewidth=1.2, linestyle="--", zorder=1)
    _node(
        axes,
        point,
        "\n".join(write(structure).split("; ")),
        "" if near else "comparable with none",
        "white",
        marked=True,
    )


def positions() -> dict[str, tuple[float, float]]:
    """Name -> where it is drawn, in inches."""
    return {
        name: (_WIDE * (index - (len(level) - 1) / 2), _HIGH * height)
        for height, level in enumerate(LEVELS)
        for index, name in enumerate(level)
    }


def _methods() -> str:
    """The methods of the library by the loss that they are the structure of."""
    by_formula: dict[str, list[str]] = {}
    for names, meaning in MEANINGS.items():
        if meaning.formula is not None:
            by_formula.setdefault(meaning.formula, []).append(names[0])
    return "\n".join(f"{formula}: {textwrap.fill(', '.join(methods), 44)}" for formula, methods in by_formula.items())


def _node(axes: Any, point: tuple[float, float], name: str, below: str, fill: str, *, marked: bool) -> None:
    from matplotlib.patches import FancyBboxPatch

    lines = name.split("\n")
    wide = max(0.075 * len(below), 0.11 * max(map(len, lines))) + 0.1
    high = 0.2 * len(lines) + 0.2 * bool(below)
    x, y = point
    edge, width = (MARKED, 2.5) if marked else (LINE, 0.8)
    corner = (x - wide / 2, y - high / 2)
    axes.add_patch(
        FancyBboxPatch(
            corner, wide, high, boxstyle="round,pad=0.08", facecolor=fill, edgecolor=edge, linewidth=width, zorder=2
        )
    )
    middle = y + 0.1 * bool(below)
    axes.text(x, middle, name, ha="center", va="center", fontsize=11, weight="bold", zorder=3, parse_math=False)
    axes.text(x, corner[1] + 0.07, below, ha="center", va="center", fontsize=8, color=GREY, zorder=3)
