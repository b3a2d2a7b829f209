"""Scores of images: the rates of the six tasks, and a preference for clean, centred pictures of high contrast."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rather.worlds.shapes.demand import OPENINGS, TASKS, Demand, random_demand
from rather.worlds.shapes.read import read
from rather.worlds.shapes.render import Image
from rather.worlds.shapes.scene import COLOURS, GROUNDS

SINGLE, GENEVAL = "single checks", "GenEval-like total"
"""What rates over all tasks are called: of ``checks`` one by one, and of what each demand's task is about (``marks``)."""
_EVALUATION = 90_001
"""Seed of the prompts that models are measured on; no pairs are drawn from it."""


def obeys(demand: Demand, pixels: Image) -> bool:
    """Whether the image, read back, is what was asked for; an object of no known shape is one too many."""
    return all(checks(demand, pixels))


def checks(demand: Demand, pixels: Image) -> list[bool]:
    """Everything asked for, one by one (see ``Demand.checks``); an object of no known shape makes the number wrong."""
    return marks(demand, pixels)[0]


def marks(demand: Demand, pixels: Image) -> tuple[list[bool], bool]:
    """``checks``, and whether the image shows what the demand's task is about (see ``Demand.answered``): read back once."""
    found = read(pixels)
    number, *others = demand.checks(found.scene)
    return [number and found.blobs == 0, *others], demand.answered(found.scene)


def grade(demand: Demand, pixels: Image) -> float:
    """Between 0 and 2: the share of the single things asked for that the image shows, and one more where it shows what the
    task is about."""
    single, answered = marks(demand, pixels)
    return float(np.mean(single)) + answered


def prompts(per_task: int) -> list[tuple[Demand, str]]:
    """Held-out demands with their captions, so many of each task, the same on every call."""
    random = np.random.Generator(np.random.PCG64(_EVALUATION))
    demands = [random_demand(task, random, held_out=True) for task in TASKS for _ in range(per_task)]
    return [(demand, demand.caption(int(random.integers(len(OPENINGS))))) for demand in demands]


def rates(demands: Sequence[Demand], images: Sequence[Image]) -> dict[str, float]:
    """Share of images that obey, by task, and ``overall``, the mean of the tasks' shares; tasks without an image are left
    out of both.

    Raises:
        ValueError: no demand, or not one image to each.
    """
    if not demands:
        raise ValueError("there is no image to score")
    by_task: dict[str, list[bool]] = {}
    for demand, pixels in zip(demands, images, strict=True):
        by_task.setdefault(demand.task, []).append(obeys(demand, pixels))
    found = {task: float(np.mean(by_task[task])) for task in TASKS if task in by_task}
    return {"overall": float(np.mean(list(found.values()))), **found}


def aesthetic(pixels: Image) -> float:
    """Between 0 and 1, the mean of three marks; 0 if nothing is recognised.

    Contrast: mean distance of the objects' colours from the background's, as a share of that of black and white.
    Centredness: one minus the distance of the objects' mean centre from the middle, in half sides. Cleanness: overlap of
    the objects with the outlines they should have.
    """
    found = read(pixels)
    things = found.scene.things
    if not things:
        return 0.0
    ground = np.asarray(GROUNDS[found.scene.background], dtype=np.float64)
    inks = np.array([COLOURS[thing.colour] for thing in things], dtype=np.float64)
    contrast = float(np.linalg.norm(inks - ground, axis=-1).mean() / (255 * np.sqrt(3)))
    middle = np.mean([(thing.x, thing.y) for thing in things], axis=0)
    centred = 1 - min(1.0, float(np.linalg.norm(middle - 0.5)) * 2)
    return (contrast + centred + found.overlap) / 3
