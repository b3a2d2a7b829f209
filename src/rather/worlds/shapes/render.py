"""Scenes drawn as pixels, and pixels as PNG."""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from rather.errors import UserError
from rather.worlds.shapes.scene import COLOURS, GROUNDS, Scene

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]

DIAMETER = {"small": 8, "large": 12}
"""Of objects, in 32nds of the image's side."""
INK = 0.42
"""Stripes and dots have the object's colour times this."""
SIDES = (32, 64)


@lru_cache(maxsize=256)
def outline(shape: str, size: str, side: int) -> Mask:
    """[D, D], whether a pixel belongs to the object; D is its diameter in pixels."""
    across = DIAMETER[size] * side // 32
    axis = (np.arange(across) + 0.5) / across * 2 - 1
    x, y = np.meshgrid(axis, axis)
    return {
        "circle": x**2 + y**2 <= 1,
        "square": (abs(x) <= 0.9) & (abs(y) <= 0.9),
        "triangle": abs(x) <= (y + 1) / 2,
        "cross": (abs(x) <= 0.3) | (abs(y) <= 0.3),
        "diamond": abs(x) + abs(y) <= 1,
    }[shape]


@lru_cache(maxsize=64)
def ink(texture: str, size: str, side: int) -> Mask:
    """[D, D], whether a pixel would be dark, the object's outline aside."""
    across, unit = DIAMETER[size] * side // 32, side // 32
    row, column = np.indices((across, across)) // unit
    if texture == "striped":
        return row // 2 % 2 == 1
    if texture == "dotted":
        return (row % 3 == 1) & (column % 3 == 1)
    return np.zeros((across, across), dtype=bool)


def render(scene: Scene, side: int = 32) -> Image:
    """[side, side, 3] RGB. Nothing is antialiased: a pixel has the colour of what covers its centre."""
    pixels = np.empty((side, side, 3), dtype=np.uint8)
    pixels[:] = GROUNDS[scene.background]
    for thing in scene.things:
        mask, dark = outline(thing.shape, thing.size, side), ink(thing.texture, thing.size, side)
        left, top = round(thing.x * side) - len(mask) // 2, round(thing.y * side) - len(mask) // 2
        colour = np.asarray(COLOURS[thing.colour], dtype=np.float64)
        painted = np.where(dark[..., None], colour * INK, colour).round().astype(np.uint8)
        region = pixels[top : top + len(mask), left : left + len(mask)]
        region[mask] = painted[mask]
    return pixels


def to_png(pixels: Image) -> bytes:
    """The bytes of a PNG file.

    Raises:
        UserError: Pillow is not installed.
    """
    stream = io.BytesIO()
    _pillow().fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()


def from_bytes(data: bytes) -> Image:
    """[height, width, 3] RGB of an image file's bytes."""
    with _pillow().open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def _pillow():  # type: ignore[no-untyped-def]
    try:
        from PIL import Image as pillow
    except ImportError:
        raise UserError("images need Pillow", where="world:shapes", fix="pip install 'rather[images]'") from None
    return pillow
