"""The worlds by name: ``world:NAME?key=value`` stands for comparisons wherever data is asked for.

The table names functions that are imported when first needed; each takes the query's values and the whole name (for
messages) and returns comparisons.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from rather.data.types import Comparison, Prompt
from rather.errors import UserError, nearest
from rather.worlds.query import QueryOptions, split_query

Loader = Callable[[dict[str, str], str], list[Comparison]]


@dataclass(frozen=True)
class AnswerCheck:
    """Held-out prompts of a world, and a program that checks an answer to each.

    Attributes:
        prompts: to be answered.
        check: (index of a prompt, answer) -> by name, whether the answer obeys.
        max_tokens: room for an answer.
        counts: (index, answer) -> by name, how many of how many are right; rates are pooled over the answers.
    """

    prompts: Sequence[Prompt]
    check: Callable[[int, str], dict[str, bool]]
    max_tokens: int
    counts: Callable[[int, str], dict[str, tuple[int, int]]] | None = None


@dataclass(frozen=True)
class World:
    """``loader``: ``module:function`` of a ``Loader``; ``summary``: one line of help; ``checker``: ``module:function`` of
    an ``AnswerCheck``, for worlds of text."""

    loader: str
    summary: str
    checker: str | None = None


WORLDS = {
    "annotations": World(
        "rather.worlds.annotations.comparisons:load_query",
        "messages with labels as JSON, against versions with a label wrong (text; options: pairs, flip, split, seed)",
        "rather.worlds.annotations.comparisons:answer_check",
    ),
    "instructions": World(
        "rather.worlds.instructions.comparisons:load_query",
        "instructions that a program can check (text; options: split, rationale)",
        "rather.worlds.instructions.comparisons:answer_check",
    ),
    "points": World(
        "rather.worlds.points.pairs:load_query",
        "points in the plane, near mode or far mode (model toy:points; options: pairs, flip, delta, split, seed)",
    ),
    "shapes": World(
        "rather.worlds.shapes.pairs:load_query",
        "captioned images of coloured shapes (options: pairs, kind, flip, mismatch, size, split, seed)",
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


class InstructionsOptions(QueryOptions):
    split: Literal["train", "eval"] = Field("train", description="train or eval; the two share no prompt")


def check_answers(name: str) -> AnswerCheck | None:
    """How answers in the world of ``world:NAME?...`` are checked; ``None`` where only the policy can (see ``check``)."""
    head = name.removeprefix("world:").partition("?")[0]
    if not name.startswith("world:") or head not in WORLDS or WORLDS[head].checker is None:
        return None
    module, _, function = str(WORLDS[head].checker).partition(":")
    return getattr(importlib.import_module(module), function)()
