"""What is true in the world of points: where the modes are, how base data is made, and how a sample is judged.

Prompts are c = 0..3; u_c is the unit vector at angle c * pi / 2. Each prompt has a bad mode at 0.5 u_c and a good one at
1.5 u_c, both with isotropic noise of standard deviation 0.12. Base data is half of each. A target shifted by ``delta``
lies at (1.5 + delta) u_c, outside of what a base model has seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PROMPTS = 4
GOOD_RADIUS, BAD_RADIUS, NOISE = 1.5, 0.5, 0.12
NEAR = 4 * NOISE
"""A sample within this distance of a mode belongs to it."""

Points = NDArray[np.float64]


def directions(prompts: NDArray[np.int64]) -> Points:
    """[N, 2] unit vectors u_c."""
    angle = prompts * (np.pi / 2)
    return np.stack([np.cos(angle), np.sin(angle)], axis=-1)


def draw_at(prompts: NDArray[np.int64], radius: float | Points, random: np.random.Generator) -> Points:
    """[N, 2] points around ``radius`` u_c; ``radius`` is a number or [N]."""
    centre = directions(prompts) * np.broadcast_to(radius, prompts.shape)[:, None]
    return centre + NOISE * random.standard_normal(centre.shape)


def base_data(count: int, seed: int) -> tuple[NDArray[np.int64], Points]:
    """Prompts [N] and points [N, 2] that a base model learns from: each prompt and mode equally often."""
    random = np.random.Generator(np.random.PCG64(seed))
    index = random.permutation(count)
    radius = np.where(index // PROMPTS % 2 == 0, BAD_RADIUS, GOOD_RADIUS)
    prompts = (index % PROMPTS).astype(np.int64)
    return prompts, draw_at(prompts, radius, random)


@dataclass(frozen=True)
class Rates:
    """Shares of ``n`` samples: ``good`` is nearer to the good mode than to the bad one, ``bad`` lies within 4 sigma of
    the bad mode, ``off`` further than 4 sigma from both, ``hit`` within 4 sigma of the target."""

    n: int
    good: float
    bad: float
    off: float
    hit: float


def judge(prompts: NDArray[np.int64], points: Points, delta: float = 0.0) -> dict[str, NDArray[np.bool_]]:
    """The four properties of each sample, [N] each; see ``Rates``. One that is not finite has none but ``off``."""
    points = np.nan_to_num(points, nan=np.inf, posinf=np.inf, neginf=np.inf)
    unit = directions(prompts)

    def distance(radius: float) -> Points:
        return np.linalg.norm(points - radius * unit, axis=-1)

    to_good, to_bad = distance(GOOD_RADIUS), distance(BAD_RADIUS)
    return {
        "good": to_good < to_bad,
        "bad": to_bad <= NEAR,
        "off": (to_good > NEAR) & (to_bad > NEAR),
        "hit": distance(GOOD_RADIUS + delta) <= NEAR,
    }


def rates(prompts: NDArray[np.int64], points: Points, delta: float = 0.0) -> Rates:
    """Shares over samples."""
    found = judge(prompts, points, delta)
    return Rates(len(points), **{name: float(values.mean()) for name, values in found.items()})
