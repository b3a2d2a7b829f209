"""How far one set of images is from another.

frechet   |m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2))       means and covariances of features (arXiv 1706.08500 eq. 6)
cmmd      1000 (k(a, a) + k(b, b) - 2 k(a, b)), means of k(x, y) = exp(-|x - y|^2 / 200) over all pairs
          (arXiv 2401.09603 with the constants of its code); of CLIP embeddings of length one

Features are an embedding by a CLIP model that the user names, or, for the world of shapes, what a program reads in an image.
Distances compare under the same features alone: none of these is the number of an Inception network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rather.data.images import SUFFIXES
from rather.errors import UserError, nearest
from rather.policies.clip import unit
from rather.policies.pipelines.pixels import pixels_of
from rather.rewards.images import opened

Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]

_CHUNK = 64  # images that are open at a time
_ROWS = 1024  # of a table of kernels that is held at a time


@dataclass(frozen=True)
class Features:
    """What images are compared by.

    Attributes:
        of: PIL images in RGB to [n, d] float64.
        unit: whether features may be scaled to length one, as ``cmmd`` wants them.
    """

    name: str
    of: Callable[[Sequence[Any]], np.ndarray]
    unit: bool


@dataclass(frozen=True)
class Distance:
    """``images``: how many are in each set; ``width``: features of each; ``cmmd``: of CLIP embeddings alone."""

    images: tuple[int, int]
    width: int
    frechet: float
    cmmd: float | None


def features(name: str) -> Features:
    """``clip:MODEL``, or ``shapes``.

    Raises:
        UserError: there are no such features, or the model cannot be loaded.
    """
    kind, _, rest = name.partition(":")
    if name == "shapes":
        return Features(name, _shapes, unit=False)
    if kind == "clip" and rest:
        from rather.rewards.clip import model_of

        return Features(name, model_of(rest, kind).images, unit=True)
    fix = f"{nearest(kind, ['clip', 'shapes'])}; write clip:MODEL (a folder or a hub name), or shapes"
    raise UserError(f"there are no features {name!r}", where="--features", fix=fix)


def compare(one: Path, other: Path, by: Features, progress: Progress) -> Distance:
    """Of the images in two folders.

    Raises:
        UserError: a folder holds fewer than two images, or one that cannot be read.
    """
    sets = [images_in(one), images_in(other)]
    points = []
    with progress("reading images", sum(map(len, sets))) as advance:
        for paths in sets:
            parts = []
            for start in range(0, len(paths), _CHUNK):
                some = [str(path) for path in paths[start : start + _CHUNK]]
                parts.append(by.of(opened(some, "compare-images")))
                advance(len(some))
            points.append(np.concatenate(parts))
    a, b = points
    return Distance((len(a), len(b)), a.shape[1], frechet(a, b), cmmd(a, b) if by.unit else None)


def images_in(folder: Path) -> list[Path]:
    """Paths of the images in a folder and in those below it, by name.

    Raises:
        UserError: there are fewer than two.
    """
    if not folder.is_dir():
        raise UserError("is no folder", where=str(folder), fix="give a folder of images")
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if len(found) < 2:
        what = f"holds {'one image' if found else 'no images'}; a spread needs two at least"
        raise UserError(what, where=str(folder), fix=f"images end in {', '.join(sorted(SUFFIXES))}")
    return found


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """Of features [n, d] and [m, d]; covariances divide by n - 1 and m - 1. Not negative; 0 for equal sets, to rounding.

    tr (S_a S_b)^(1/2) is the sum of the singular values of A B^T / sqrt((n - 1)(m - 1)) for centred A and B, and of their
    triangular factors as well: no square root of a matrix is taken, and a singular covariance is nothing special.
    """
    (mean_a, root_a), (mean_b, root_b) = _moments(a), _moments(b)
    shared = np.linalg.svd(root_a @ root_b.T, compute_uv=False).sum()
    total = ((mean_a - mean_b) ** 2).sum() + (root_a**2).sum() + (root_b**2).sum() - 2 * shared
    return max(float(total), 0.0)


def _moments(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean [d] and R [min(n, d), d] with R^T R the covariance."""
    points = np.asarray(points, np.float64)
    mean = points.mean(0)
    root: Any = np.linalg.qr((points - mean) / np.sqrt(len(points) - 1), mode="r")
    return mean, root


def cmmd(a: np.ndarray, b: np.ndarray, sigma: float = 10.0, scale: float = 1000.0) -> float:
    """Squared maximum mean discrepancy of [n, d] and [m, d], each row scaled to length one first, times ``scale``. Pairs of
    a point with itself count, so equal sets are at 0 and the estimate is a little too large for small ones."""
    a, b = (unit(np.asarray(x, np.float64)) for x in (a, b))
    found = _kernel(a, a, sigma) + _kernel(b, b, sigma) - 2 * _kernel(a, b, sigma)
    return max(float(scale * found), 0.0)


def _kernel(a: np.ndarray, b: np.ndarray, sigma: float) -> float:
    """Mean over all pairs of exp(-|x - y|^2 / (2 sigma^2)), for rows of length one."""
    total = 0.0
    for start in range(0, len(a), _ROWS):
        total += np.exp((a[start : start + _ROWS] @ b.T - 1) / sigma**2).sum()
    return total / (len(a) * len(b))


def _shapes(images: Sequence[Any]) -> np.ndarray:
    """[n, 24]: how many objects of each colour, shape, texture and size, which background, and how many blobs."""
    from rather.worlds.shapes.read import read
    from rather.worlds.shapes.scene import COLOURS, GROUNDS, SHAPES, SIZES, TEXTURES

    rows = []
    for image in images:
        try:
            found = read(pixels_of(image))
        except ValueError as error:  # of the size
            raise UserError(str(error), where="--features shapes", fix="other images: --features clip:MODEL") from None
        looks = [word for thing in found.scene.things for word in thing.looks]
        counts = [looks.count(word) for word in (*COLOURS, *SHAPES, *TEXTURES, *SIZES)]
        rows.append([*counts, *(float(ground == found.scene.background) for ground in GROUNDS), found.blobs])
    return np.array(rows, np.float64)
