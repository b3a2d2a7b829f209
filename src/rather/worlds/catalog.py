"""The worlds by name: ``world:NAME?key=value`` stands for comparisons wherever data is asked for.

The table names functions that are imported when first needed; each takes the query's values and the whole name (for
messages) and returns comparisons.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass

from rather.data.types import Comparison
from rather.errors import UserError, nearest
from rather.worlds.query import split_query

Loader = Callable[[dict[str, str], str], list[Comparison]]


@dataclass(frozen=True)
class World:
    """``loader``: ``module:function`` of a ``Loader``; ``summary``: one line of help."""

    loader: str
    summary: str


WORLDS = {
    "instructions": World(
        "rather.worlds.catalog:_instructions", "instructions that a program can check (text; options: split)"
    ),
    "points": World(
        "rather.worlds.points.pairs:load_query",
        "points in the plane, near mode or far mode (model toy:points; options: pairs, flip, delta, split, seed)",
    ),
    "shop": World(
        "rather.worlds.shop.rows:load_query",
        "users, items and latent tastes (model toy:shop; options: k, users, split, seed)",
    ),
}


def load_world(name: str) -> list[Comparison]:
    """The comparisons of ``world:NAME?key=value`` (the prefix may be left out).

    Raises:
        UserError: no such world, an unknown option, or a value out of range.
    """
    where = name if name.startswith("world:") else f"world:{name}"
    head, values = split_query(where.removeprefix("world:"), where)
    if head not in WORLDS:
        raise UserError(f"there is no world {head!r}", where=where, fix=nearest(head, WORLDS))
    module, _, function = WORLDS[head].loader.partition(":")
    loader: Loader = getattr(importlib.import_module(module), function)
    return loader(values, where)


def _instructions(values: dict[str, str], where: str) -> list[Comparison]:
    from rather.worlds.instructions.pairs import load_pairs

    return load_pairs(**values)
