"""An image read back into its scene.

The background is the most common of the known ones. Every other pixel goes to the nearest of the objects' colours, light
or dark; connected pixels are an object, cut by colour where two objects touch. An object's shape and size are those of
the outline that overlaps it best, its texture is the pattern that agrees with its dark pixels best.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rather.worlds.shapes.render import INK, SIDES, Image, Mask, ink, outline
from rather.worlds.shapes.scene import COLOURS, GROUNDS, SHAPES, SIZES, TEXTURES, Scene, Thing

SMALLEST = 10
"""Connected pixels of an image of 32 x 32 that count as an object; fewer are noise."""
ALIKE = 0.6
"""Least overlap (intersection over union) with an outline; below, an object is a blob of no known shape."""


@dataclass(frozen=True)
class Reading:
    """``scene``: what was recognised; ``blobs``: objects of no known shape; ``overlap``: of the recognised objects with
    their outlines, the mean, 1 for a perfect drawing and 0 if there are none."""

    scene: Scene
    blobs: int
    overlap: float


def read(pixels: Image) -> Reading:
    """Read [side, side, 3] RGB, side 32 or 64.

    Raises:
        ValueError: another form of image.
    """
    side = len(pixels)
    if side not in SIDES or pixels.shape != (side, side, 3):
        raise ValueError(f"an image of shapes is [32, 32, 3] or [64, 64, 3], not {list(pixels.shape)}")
    palette = np.array([*GROUNDS.values(), *COLOURS.values()], dtype=np.float64)
    dark = INK * np.array(list(COLOURS.values()), dtype=np.float64)
    nearest = _nearest(pixels, np.concatenate([palette, dark]))
    counts = np.bincount(nearest.ravel(), minlength=len(GROUNDS))[: len(GROUNDS)]
    ground = int(counts.argmax())
    inks = np.concatenate([palette[ground : ground + 1], palette[len(GROUNDS) :], dark])
    nearest = _nearest(pixels, inks)
    hue = np.where(nearest == 0, -1, (nearest - 1) % len(COLOURS))
    is_dark = nearest > len(COLOURS)
    things, blobs, overlaps = [], 0, []
    for part in _parts(hue, SMALLEST * (side // 32) ** 2):
        overlap, thing = _recognise(part, hue, is_dark, side)
        if thing is None:
            blobs += 1
            continue
        things.append(thing)
        overlaps.append(overlap)
    scene = Scene(list(GROUNDS)[ground], tuple(sorted(things)))
    return Reading(scene, blobs, float(np.mean(overlaps)) if overlaps else 0.0)


def _nearest(pixels: Image, palette: NDArray[np.float64]) -> NDArray[Any]:
    """[side, side] index of the nearest colour."""
    # |p - c|^2 without |p|^2, which is the same for all colours: one product instead of an array [side, side, colours, 3].
    return ((palette**2).sum(-1) - 2 * (pixels.astype(np.float64) @ palette.T)).argmin(-1)


def _parts(hue: NDArray[Any], least: int) -> list[Mask]:
    """Masks of the objects; where two colours hold a quarter of a connected part each, every colour's own parts."""
    found = []
    for part in components(hue >= 0, least):
        votes = np.bincount(hue[part], minlength=len(COLOURS))
        strong = np.flatnonzero(votes >= max(least, part.sum() / 4))
        if len(strong) > 1:
            found += [piece for colour in strong for piece in components(part & (hue == colour), least)]
        else:
            found.append(part)
    return found


def components(mask: Mask, least: int) -> list[Mask]:
    """Masks of the parts joined by sides, of at least so many pixels, from the top."""
    left = {(int(y), int(x)) for y, x in np.argwhere(mask)}
    found = []
    for start in sorted(left):
        if start not in left:
            continue
        left.remove(start)
        stack, members = [start], []
        while stack:
            y, x = stack.pop()
            members.append((y, x))
            for step in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if step in left:
                    left.remove(step)
                    stack.append(step)
        if len(members) >= least:
            part = np.zeros_like(mask)
            part[tuple(np.array(members).T)] = True
            found.append(part)
    return found


def _recognise(part: Mask, hue: NDArray[Any], dark: Mask, side: int) -> tuple[float, Thing | None]:
    """The best outline at all places within two pixels of where the part's box lies; ties go to the first."""
    colour = list(COLOURS)[int(np.bincount(hue[part], minlength=len(COLOURS)).argmax())]
    rows, columns = np.nonzero(part)
    middle = int(rows.min() + rows.max() + 1) // 2, int(columns.min() + columns.max() + 1) // 2
    names, masks, areas = _outlines(side)
    reach = round(masks.shape[1] ** 0.5) // 2
    window = _around(part, middle, reach).ravel().astype(np.float32)
    shared = masks @ window
    overlaps = shared / (float(part.sum()) + areas - shared)
    best = int(overlaps.argmax())
    overlap, (shape, size, dy, dx) = float(overlaps[best]), names[best]
    y, x = middle[0] + dy, middle[1] + dx
    if overlap < ALIKE:
        return overlap, None
    mask = outline(shape, size, side)
    shown = _around(dark & part, (y, x), len(mask) // 2)
    agreement = {name: float((shown == ink(name, size, side))[mask].mean()) for name in TEXTURES}
    texture = max(agreement, key=agreement.__getitem__)
    return overlap, Thing(colour, shape, texture, size, x / side, y / side)


def _around(mask: Mask, centre: tuple[int, int], reach: int) -> Mask:
    """[2 reach, 2 reach] of the mask around a centre; False outside of the image."""
    padded = np.pad(mask, 2 * reach)
    top, left = centre[0] + reach, centre[1] + reach
    return padded[top : top + 2 * reach, left : left + 2 * reach]


@lru_cache(maxsize=4)
def _outlines(side: int) -> tuple[list[tuple[str, str, int, int]], NDArray[np.float32], NDArray[np.float32]]:
    """Every outline at every place: names with the moves down and right, masks [K, W * W] as 0 and 1, areas [K]."""
    widest = max(len(outline(shape, size, side)) for shape in SHAPES for size in SIZES)
    reach, names, masks = widest // 2 + 2, [], []
    for shape, size, dy, dx in product(SHAPES, SIZES, range(-2, 3), range(-2, 3)):
        mask = outline(shape, size, side)
        window = np.zeros((2 * reach, 2 * reach), dtype=np.float32)
        top, left = reach + dy - len(mask) // 2, reach + dx - len(mask) // 2
        window[top : top + len(mask), left : left + len(mask)] = mask
        names.append((shape, size, dy, dx))
        masks.append(window.ravel())
    stacked = np.stack(masks)
    return names, stacked, stacked.sum(1)
