"""Shapes of images of about one area: each image is cut to the one that is nearest to its own proportions."""

from __future__ import annotations

import math
from functools import lru_cache

Shape = tuple[int, int]
"""Height and width in pixels."""

COARSE = 64
"""Step of the sides, in pixels, of images that are large enough for it."""
_LARGE = 8 * COARSE


@lru_cache
def shapes(size: int, unit: int, longest: int | None = None) -> tuple[Shape, ...]:
    """Every width from half of ``size`` to twice as much in even steps, with the greatest height that keeps the area within
    the square's; and the same turned round. The square comes first.

    Args:
        size: side of the square, a multiple of ``unit``.
        unit: what sides have to be multiples of.
        longest: no side is longer.
    """
    step = COARSE if size >= _LARGE and size % COARSE == 0 and COARSE % unit == 0 else unit
    found = {(size, size)}
    for wide in range(size, 2 * size + 1, step):
        high = size * size // wide // step * step
        if high and (longest is None or wide <= longest):
            found |= {(high, wide), (wide, high)}
    return tuple(sorted(found, key=lambda shape: (_distance(shape, (1, 1)), shape)))


def nearest(height: int, width: int, among: tuple[Shape, ...]) -> Shape:
    """The shape whose proportions are nearest to those of an image, by the logarithm; of two, the one nearer to a square."""
    return min(among, key=lambda shape: round(_distance(shape, (height, width)), 9))


def _distance(one: Shape, other: Shape) -> float:
    return abs(math.log(one[0] / one[1]) - math.log(other[0] / other[1]))
