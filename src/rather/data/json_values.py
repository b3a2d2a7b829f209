"""Where the values of a JSON text are, by key; for text that may be cut short or slightly wrong, as models write it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_LEXEME = re.compile(r'"(?:[^"\\]|\\.)*"?|[{}\[\],:]|[^\s{}\[\],:"]+', re.DOTALL)


class JsonValue(NamedTuple):
    """A string, number, true, false or null.

    Attributes:
        key: the innermost key above it; elements of a list have the list's.
        start, end: its characters in the text, without quotes.
    """

    key: str
    start: int
    end: int


def values_of(text: str) -> Iterator[JsonValue]:
    """The values under keys, in order. Text outside of braces and brackets holds none."""
    outer: list[tuple[str, str | None]] = []
    key: str | None = None
    last: re.Match[str] | None = None

    def value() -> Iterator[JsonValue]:
        if last is not None and key is not None and outer:
            start, end = last.span()
            quoted = last[0].startswith('"')
            closed = quoted and len(last[0]) > 1 and last[0].endswith('"')
            yield JsonValue(key, start + quoted, end - closed)

    for found in _LEXEME.finditer(text):
        lexeme = found[0]
        if lexeme == ":" and last is not None and outer and outer[-1][0] == "{":
            key, last = last[0].strip('"'), None
        elif lexeme in ("{", "["):
            outer.append((lexeme, key))
            key, last = (None if lexeme == "{" else key), None
        elif lexeme in (",", "}", "]"):
            yield from value()
            last = None
            if lexeme != ",":
                key = outer.pop()[1] if outer else None
            elif outer and outer[-1][0] == "{":
                key = None
        else:
            last = found
    yield from value()


def same_key(key: str) -> str:
    """A key by its letters and digits alone: ``Sub-code``, ``sub_code`` and ``Subcode`` are one."""
    return "".join(char for char in key.casefold() if char.isalnum())
