"""Preference pairs of the world of points: the winner from the good mode, the loser from the bad one."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from rather.data.types import Comparison, Edge, Source
from rather.worlds.points.truth import BAD_RADIUS, GOOD_RADIUS, PROMPTS, draw_at
from rather.worlds.query import QueryOptions, read_options

_SPLITS = {"train": 0, "eval": 1}


class PointsOptions(QueryOptions):
    pairs: int = Field(4000, ge=1, description="number of pairs")
    flip: float = Field(0.0, ge=0, lt=0.5, description="share of pairs whose label is wrong")
    delta: float = Field(0.0, ge=-1, le=10, description="winners lie this much beyond the good mode")
    split: Literal["train", "eval"] = Field("train", description="train or eval; the two share no pair")
    seed: int = Field(0, ge=0, description="of the pairs")


def load_query(values: dict[str, str], where: str) -> list[Comparison]:
    """The pairs of ``world:points?...``."""
    return load_pairs(read_options(PointsOptions, values, where))


def load_pairs(options: PointsOptions) -> list[Comparison]:
    """Comparisons with prompt c and two points, chosen first.

    Held-out pairs have clean labels: they measure what is true. ``extras["flipped"]`` tells wrong labels.
    """
    random = np.random.Generator(np.random.PCG64([options.seed, _SPLITS[options.split]]))
    prompts = random.permutation(np.arange(options.pairs, dtype=np.int64) % PROMPTS)
    good = draw_at(prompts, GOOD_RADIUS + options.delta, random)
    bad = draw_at(prompts, BAD_RADIUS, random)
    flipped = random.random(options.pairs) < (options.flip if options.split == "train" else 0.0)
    rows: list[Comparison] = []
    for row, (prompt, better, worse, wrong) in enumerate(zip(prompts, good, bad, flipped, strict=True)):
        ends = (worse, better) if wrong else (better, worse)
        rows.append(
            Comparison(
                id=f"points-{options.split}-{options.seed}-{row}",
                prompt=int(prompt),
                responses=tuple((float(x), float(y)) for x, y in ends),
                edges=(Edge(0, 1),),
                extras={"flipped": bool(wrong)},
                source=Source("world:points", row + 1),
            )
        )
    return rows
