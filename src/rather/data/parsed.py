"""What a format reads from a row, before the columns that every format shares are added."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rather.data.types import Prompt, Response

Row = Mapping[str, Any]

PROMPT = "prompt|instruction|question|query|context"
"""Columns that hold a prompt, the first that is there; ``|`` separates alternatives."""


@dataclass(frozen=True)
class Parsed:
    """Prompt, responses and their order.

    Attributes:
        order: (winner, loser) indices of each preference.
        used: further columns that were read, so that they are not kept as extras.
        notes: words for what was inferred and should be shown to the user.
    """

    prompt: Prompt
    responses: tuple[Response, ...]
    order: tuple[tuple[int, int], ...] = ()
    desirable: tuple[bool, ...] = ()
    scores: tuple[float, ...] = ()
    used: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()


def column(row: Row, names: str) -> str | None:
    """The first of the alternatives ``a|b`` that the row has a value for."""
    return next((name for name in names.split("|") if row.get(name) is not None), None)


def first(row: Row, names: str) -> Any:
    """The value of that column, or ``None``."""
    name = column(row, names)
    return None if name is None else row[name]
