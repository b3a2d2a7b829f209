"""Names with a prefix (``world:points``) that are not files: who makes rows of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rather.data.types import Comparison

SchemeLoader = Callable[[str], Iterable[Mapping[str, Any] | Comparison]]
"""Takes the whole name; gives rows, read like those of a file, or comparisons, taken as they are."""

_SCHEMES: dict[str, SchemeLoader] = {}


def register_scheme(prefix: str, loader: SchemeLoader) -> None:
    """Let ``load("prefix:...")`` take its rows from ``loader``; a later registration replaces an earlier one."""
    _SCHEMES[prefix.removesuffix(":")] = loader


def scheme_of(name: str) -> SchemeLoader | None:
    """The loader of a name's prefix, or ``None`` when the name has no known one."""
    prefix, colon, _ = name.partition(":")
    if not colon:
        return None
    if prefix == "world" and prefix not in _SCHEMES:
        from rather.worlds.catalog import load_world

        return load_world
    return _SCHEMES.get(prefix)
