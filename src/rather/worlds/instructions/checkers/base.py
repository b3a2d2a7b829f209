"""What a checker is: an instruction in several wordings, and the program that decides whether an answer obeys it."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Args = Mapping[str, Any]
"""A checker's arguments; JSON values only."""

Split = Literal["train", "heldout"]

Kind = Literal["sentence", "open", "list", "name", "yesno"]
"""What a task asks for: one sentence, free text, several things, one thing, or yes or no."""

PROSE: frozenset[Kind] = frozenset({"sentence", "open"})
OPEN: frozenset[Kind] = frozenset({"open"})
LISTS: frozenset[Kind] = frozenset({"open", "list"})
ANY: frozenset[Kind] = frozenset({"sentence", "open", "list", "name", "yesno"})


@dataclass(frozen=True)
class Topic:
    """An everyday subject.

    Attributes:
        name: fits after "about": a mass noun, a plural or a gerund.
        word: its main word.
        keywords: words that belong to it, none of them in ``name``.
    """

    name: str
    word: str
    keywords: tuple[str, ...]


def _nothing(args: Args) -> str:
    return ""


@dataclass(frozen=True)
class Checker:
    """One kind of verifiable constraint.

    Attributes:
        name: its identifier in records.
        check: whether an answer obeys; leading and trailing white space never matters. Pure.
        sample: draws arguments for a split and a topic.
        train: wordings for training prompts, as format strings over the arguments. For an integer argument ``n``
            there is also ``{n_s}``, empty when it is 1 and "s" otherwise.
        heldout: wordings for held-out prompts, none of them in ``train``.
        passing: a short answer that obeys.
        failing: an answer that does not.
        kinds: tasks it makes sense with.
        slots: two constraints that share a slot are not put together.
        required: text that every obeying answer contains, to be tried on the constraints beside it.
        forbids: whether it forbids something, so that the ``required`` text of others has to obey it.
        weight: how often it is drawn; 1 is usual.
    """

    name: str
    check: Callable[[Args, str], bool]
    sample: Callable[[random.Random, Split, Topic], dict[str, Any]]
    train: tuple[str, ...]
    heldout: tuple[str, ...]
    passing: Callable[[Args], str]
    failing: Callable[[Args], str]
    kinds: frozenset[Kind] = PROSE
    slots: frozenset[str] = frozenset()
    required: Callable[[Args], str] = _nothing
    forbids: bool = False
    weight: float = 1.0

    def wordings(self, split: Split) -> tuple[str, ...]:
        return self.train if split == "train" else self.heldout

    def describe(self, args: Args, split: Split = "train", variant: int = 0) -> str:
        """The instruction, one or two full sentences."""
        return self.wordings(split)[variant].format(**_fields(args))


def _fields(args: Args) -> dict[str, str]:
    fields: dict[str, str] = {}
    for key, value in args.items():
        if isinstance(value, int):
            fields[f"{key}_s"] = "" if value == 1 else "s"
        fields[key] = both(value) if isinstance(value, (list, tuple)) else str(value)
    return fields


def both(values: list[str] | tuple[str, ...]) -> str:
    """``"a"``, ``"a" and "b"``, or ``"a", "b" and "c"``, each in double quotation marks."""
    quoted = [f'"{value}"' for value in values]
    return quoted[0] if len(quoted) == 1 else ", ".join(quoted[:-1]) + " and " + quoted[-1]


def no_args(rng: random.Random, split: Split, topic: Topic) -> dict[str, Any]:
    """The ``sample`` of a checker without arguments."""
    return {}
