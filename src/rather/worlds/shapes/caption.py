"""A caption read back into what it asks for: the inverse of ``Demand.caption``, for every demand that the world makes."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from rather.worlds.shapes.demand import NUMBERS, OPENINGS, Demand, Wanted
from rather.worlds.shapes.scene import BACKGROUNDS, COLOURS, PLACES, RELATIONS, SHAPES, SIZES, TEXTURES

_COUNTS = {word: count for count, word in enumerate(NUMBERS) if count > 1}


def _any(words: Iterable[str]) -> str:
    """Any of the words, the longest first: some begin like others."""
    return "|".join(map(re.escape, sorted(words, key=len, reverse=True)))


_THING = rf"(?:(?:{_any(SIZES)}) )?(?:(?:{_any(TEXTURES)}) )?(?:(?:{_any(COLOURS)}) )?(?:{_any(SHAPES)})"
_WHOLE = re.compile(
    rf"(?:{_any(word for word in (*OPENINGS, 'there are ') if word)})?"
    rf"(?:(?P<count>{_any(_COUNTS)}) (?P<many>{_THING})e?s"
    rf"|a (?P<one>{_THING})(?: (?P<place>{_any(PLACES)})| (?P<joint>and|{_any(RELATIONS)}) a (?P<other>{_THING}))?)"
    rf"(?: on a (?P<background>{_any(BACKGROUNDS)}) background)?"
)


def parse(caption: str) -> Demand | None:
    """What a caption asks for; ``None`` for a text that no demand is worded as."""
    found = _WHOLE.fullmatch(caption)
    if found is None:
        return None
    things = tuple(_wanted(found[name]) for name in ("many", "one", "other") if found[name])
    relation = found["joint"] if found["joint"] != "and" else None
    demand = Demand(
        _task(things, found["count"] is not None, relation is not None),
        things,
        count=_COUNTS.get(found["count"], 1),
        relation=relation,
        place=found["place"],
        background=found["background"],
    )
    # The pattern is loose about plurals and about "there is" and "there are"; what the demand says itself is not.
    return demand if caption in map(demand.caption, range(len(OPENINGS))) else None


def _wanted(words: str) -> Wanted:
    """The object of ``"large striped red circle"``."""

    def one_of(values: Collection[str]) -> str | None:
        return next((word for word in words.split() if word in values), None)

    return Wanted(words.split()[-1], one_of(COLOURS), one_of(TEXTURES), one_of(SIZES))


def _task(things: tuple[Wanted, ...], several: bool, related: bool) -> str:
    """The task that words captions like this one: it follows from what is said."""
    if several or related:
        return "counting" if several else "position"
    coloured = things[0].colour is not None
    if len(things) == 1:
        return "colours" if coloured else "single_object"
    return "binding" if coloured else "two_objects"
