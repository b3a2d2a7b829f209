"""What base models of shapes learn from: pictures whose captions are often wrong in the one thing that they are about."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rather.worlds.shapes.demand import OPENINGS, TASKS, Demand, random_demand, scene_for
from rather.worlds.shapes.pairs import broken
from rather.worlds.shapes.render import Image, render

WRONG = {"single_object": 0.15, "two_objects": 0.15, "counting": 0.5, "colours": 0.15, "position": 0.5, "binding": 0.5}
"""By task, the share of pictures that do not obey their caption. Half of the objects that are bound to each other's colours,
of the counts and of the positions are wrong, so that even a perfect student of these pictures would be."""


def captioned(seed: int, part: int = 0, side: int = 32) -> Iterator[tuple[str, Image]]:
    """Captions of training (never held-out ones) with pictures [side, side, 3], all tasks equally often, without end.

    Args:
        part: each has other pictures.
    """
    for demand, caption, random in _demands(seed, part):
        scene = scene_for(demand, random)
        if random.random() < WRONG[demand.task]:
            scene = broken(demand, scene, random)
        yield caption, render(scene, side)


def captions(seed: int, part: int = 0) -> Iterator[str]:
    """Captions of training without pictures, all tasks equally often, without end."""
    return (caption for _, caption, _ in _demands(seed, part))


def _demands(seed: int, part: int) -> Iterator[tuple[Demand, str, np.random.Generator]]:
    random = np.random.Generator(np.random.PCG64([seed, 2, part]))
    while True:
        for task in TASKS:
            demand = random_demand(task, random)
            yield demand, demand.caption(int(random.integers(len(OPENINGS)))), random
