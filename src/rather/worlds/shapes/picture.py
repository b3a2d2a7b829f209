"""A sheet of images with their captions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

from rather.worlds.shapes.render import Image

RIGHT, WRONG = "#009e73", "#d55e00"  # told apart by colour-blind readers too


def sheet(
    captions: Sequence[str], images: Sequence[Image], right: Sequence[bool], path: Path, columns: int = 4
) -> None:
    """Write a PNG: images [side, side, 3] in rows, each below its caption, in a frame that says whether it is right (also
    solid or dashed)."""
    from matplotlib.figure import Figure

    rows = -(-len(images) // columns)
    figure = Figure(figsize=(1.75 * columns, 2.05 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for cell in axes[len(images) :]:
        cell.axis("off")
    for cell, caption, image, good in zip(axes, captions, images, right, strict=False):
        cell.imshow(image, interpolation="nearest")
        cell.set_title(fill(caption, 27), fontsize=6.5)
        cell.set(xticks=[], yticks=[])
        for side in cell.spines.values():
            side.set(color=RIGHT if good else WRONG, linewidth=2.5, linestyle="-" if good else "--")
    figure.savefig(path, dpi=130, format="png")
