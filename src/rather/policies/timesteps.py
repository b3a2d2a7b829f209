"""Which timesteps are trained on: one for each comparison, a function of the seed and the comparison's key alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rather.policies.counter_random import integers, normals

Spread = Literal["uniform", "logit_normal"]

_STREAM = 0  # of the counter-based generator


@dataclass(frozen=True)
class Timesteps:
    """A distribution over timesteps, by their place u in [0, 1) from the least noise to the most.

    Attributes:
        spread: ``uniform``, or ``logit_normal``: u = sigma(mean + deviation n), n standard normal, as Stable Diffusion 3
            is trained (arXiv 2403.03206).
        earliest, latest: ends of the range that u is squeezed into.
    """

    spread: Spread = "uniform"
    mean: float = 0.0
    deviation: float = 1.0
    earliest: float = 0.0
    latest: float = 1.0

    def __call__(self, seed: int, keys: NDArray[np.int64], steps: int) -> NDArray[np.int64]:
        """[C] timesteps below ``steps`` for stable keys [C]."""
        first = min(int(self.earliest * steps), steps - 1)
        number = max(round(self.latest * steps) - first, 1)
        if self.spread == "uniform":
            return first + integers(seed, keys, _STREAM, number)
        place = 1 / (1 + np.exp(-(self.mean + self.deviation * normals(seed, keys, _STREAM, 1)[:, 0])))
        return first + np.minimum((place * number).astype(np.int64), number - 1)
