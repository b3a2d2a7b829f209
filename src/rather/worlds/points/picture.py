"""A scatter plot of samples with the modes marked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rather.worlds.points.truth import BAD_RADIUS, GOOD_RADIUS, NEAR, PROMPTS, Points, directions, rates

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")  # told apart by colour-blind readers too


def scatter(prompts: NDArray[np.int64], points: Points, path: Path, delta: float = 0.0) -> None:
    """Write a PNG: samples [N, 2] in the colour of their prompt, and around each mode a circle of 4 sigma.

    Good modes are solid, bad ones dotted, a shifted target dashed. Axes do not depend on the samples, so that pictures
    can be compared; samples outside are counted in the title.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Circle

    figure = Figure(figsize=(5, 5.2), layout="constrained")
    axes = figure.subplots()
    reach = GOOD_RADIUS + max(delta, 0.0) + 2 * NEAR
    for prompt, (unit, colour) in enumerate(zip(directions(np.arange(PROMPTS)), COLOURS, strict=True)):
        mine = points[prompts == prompt]
        axes.scatter(mine[:, 0], mine[:, 1], s=5, alpha=0.5, color=colour, linewidths=0, label=f"prompt {prompt}")
        rings = [(GOOD_RADIUS, "-"), (BAD_RADIUS, ":")] + ([(GOOD_RADIUS + delta, "--")] if delta else [])
        for radius, line in rings:
            x, y = (radius * unit).tolist()
            axes.add_patch(Circle((x, y), NEAR, fill=False, linestyle=line, edgecolor=colour, linewidth=1.4))
    found = rates(prompts, points, delta)
    outside = int((~(np.abs(points) <= reach).all(axis=1)).sum())
    title = f"good {found.good:.1%}   bad {found.bad:.1%}   off {found.off:.1%}"
    axes.set_title(title + (f"   hit {found.hit:.1%}" if delta else "") + (f"\n{outside} outside" if outside else ""))
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xlabel="x", ylabel="y")
    axes.legend(loc="upper left", fontsize="small", markerscale=2.5, framealpha=0.9)
    figure.savefig(path, dpi=110, format="png")
