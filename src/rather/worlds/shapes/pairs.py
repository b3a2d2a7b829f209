"""Preference pairs of images: the winner obeys the caption, the loser breaks it in one way, or is less pleasing."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from pydantic import Field

from rather.data.types import Comparison, Edge, Source
from rather.errors import UserError
from rather.worlds.query import QueryOptions, read_options
from rather.worlds.shapes.demand import OPENINGS, TASKS, Demand, random_demand, scene_for
from rather.worlds.shapes.render import render, to_png
from rather.worlds.shapes.scene import COLOURS, MOST, SHAPES, TEXTURES, UNSEEN, Scene, pick, spread
from rather.worlds.shapes.score import aesthetic

_SPLITS = {"train": 0, "eval": 1}


class ShapesOptions(QueryOptions):
    pairs: int = Field(2000, ge=1, description="number of pairs")
    kind: Literal["binding", "counting", "aesthetic", "mix"] = Field(
        "mix", description="binding, counting, aesthetic, or mix (all six tasks equally often)"
    )
    flip: float = Field(0.0, ge=0, lt=0.5, description="share of pairs whose label is wrong")
    mismatch: float = Field(
        0.0, ge=0, le=1, description="share of winners on a background that no base model has seen"
    )
    size: Literal["32", "64"] = Field("32", description="side of the images in pixels, 32 or 64")
    split: Literal["train", "eval"] = Field("train", description="train or eval; the two share no caption")
    seed: int = Field(0, ge=0, description="of the pairs")


def load_query(values: dict[str, str], where: str) -> list[Comparison]:
    """The pairs of ``world:shapes?...``."""
    return load_pairs(read_options(ShapesOptions, values, where))


def load_pairs(options: ShapesOptions) -> list[Comparison]:
    """Comparisons with a caption and two images as PNG, chosen first.

    Held-out pairs have clean labels, and captions with combinations that training captions lack. ``scores`` are true
    also where the label is flipped: the share of single things asked for that an image shows, or how pleasing it is.
    ``extras`` hold ``flipped``, ``task`` and ``mismatched``.

    Raises:
        UserError: ``mismatch`` together with ``aesthetic``.
    """
    if options.kind == "aesthetic" and options.mismatch:
        what = "a background of another kind would change which image is more pleasing"
        raise UserError(what, where="world:shapes?kind=aesthetic", fix="leave mismatch out, or choose another kind")
    random = np.random.Generator(np.random.PCG64([options.seed, _SPLITS[options.split]]))
    held, side = options.split == "eval", int(options.size)
    rows: list[Comparison] = []
    for row in range(options.pairs):
        task = options.kind if options.kind in TASKS else TASKS[row % len(TASKS)]
        demand = random_demand(task, random, held)
        unseen = bool(random.random() < options.mismatch)
        if unseen:
            demand = replace(demand, background=None)
        if options.kind == "aesthetic":
            better, worse = _by_taste(demand, random, side)
        else:
            better = scene_for(demand, random)
            worse = broken(demand, better, random)
        if unseen:
            better = replace(better, background=next(iter(UNSEEN)))
        wrong = bool(random.random() < options.flip) and not held
        ends = (worse, better) if wrong else (better, worse)
        rows.append(
            Comparison(
                id=f"shapes-{options.split}-{options.seed}-{row}",
                prompt=demand.caption(int(random.integers(len(OPENINGS)))),
                responses=tuple(to_png(render(scene, side)) for scene in ends),
                edges=(Edge(0, 1),),
                scores=tuple(_score(options.kind, demand, scene, side) for scene in ends),
                extras={"flipped": wrong, "task": task, "mismatched": unseen},
                source=Source("world:shapes", row + 1),
            )
        )
    return rows


def _score(kind: str, demand: Demand, scene: Scene, side: int) -> float:
    return aesthetic(render(scene, side)) if kind == "aesthetic" else float(np.mean(demand.checks(scene)))


def broken(demand: Demand, scene: Scene, random: np.random.Generator) -> Scene:
    """The scene changed in the one thing that the demand's task is about, so that it no longer obeys.

    Binding and position: the objects' colours or places are swapped; counting: another number; colours: another colour;
    the others: another shape or texture of one object.
    """
    things = list(scene.things)
    if demand.task == "binding":
        first, second = things
        changed = (replace(first, colour=second.colour), replace(second, colour=first.colour))
    elif demand.task == "position":
        first, second = things
        changed = (replace(first, x=second.x, y=second.y), replace(second, x=first.x, y=first.y))
    elif demand.task == "counting":
        others = [count for count in range(1, MOST + 1) if count != demand.count]
        changed = spread([things[0]] * int(random.choice(others)), random)
    elif demand.task == "colours":
        others = tuple(colour for colour in COLOURS if colour != things[0].colour)
        changed = (replace(things[0], colour=pick(others, random)),)
    else:
        which = int(random.integers(len(things)))
        name, values = (("shape", SHAPES), ("texture", TEXTURES))[int(random.integers(2))]
        asked = {want.shape for want in demand.wanted} if name == "shape" else {getattr(things[which], name)}
        others = tuple(value for value in values if value not in asked)
        things[which] = replace(things[which], **{name: pick(others, random)})
        changed = tuple(things)
    return Scene(scene.background, tuple(changed))


def _by_taste(demand: Demand, random: np.random.Generator, side: int) -> tuple[Scene, Scene]:
    """Two scenes that both obey, the more pleasing one first; they differ by at least 0.02."""
    while True:
        one, other = scene_for(demand, random), scene_for(demand, random)
        difference = aesthetic(render(one, side)) - aesthetic(render(other, side))
        if abs(difference) >= 0.02:
            return (one, other) if difference > 0 else (other, one)
