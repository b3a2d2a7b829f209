"""Annotations as JSON: what they are made of, one way to write them, and what a text says of them.

{"results": [{"Code": ..., "Sub-code": ..., "Span": ...}, ...]}
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple


class Annotation(NamedTuple):
    """A passage of a text with its label: ``code``, the finer ``subcode``, and the passage itself."""

    code: str
    subcode: str
    span: str


CODE, SUBCODE, SPAN, RESULTS = "Code", "Sub-code", "Span", "results"


@dataclass(frozen=True)
class Codebook:
    """Which sub-codes a code has."""

    subcodes: Mapping[str, Sequence[str]]

    def valid(self, code: str, subcode: str) -> bool:
        return subcode in self.subcodes.get(code, ())

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Every code with each of its sub-codes."""
        return ((code, subcode) for code, subcodes in self.subcodes.items() for subcode in subcodes)


def dump(annotations: Iterable[Annotation]) -> str:
    """The one text of annotations.

    Preferred and rejected answers have to be written alike: a difference in white space alone would teach white space.
    """
    rows = [{CODE: a.code, SUBCODE: a.subcode, SPAN: a.span} for a in annotations]
    return json.dumps({RESULTS: rows}, ensure_ascii=False)


def parse(text: str) -> list[Annotation] | None:
    """The annotations of an answer; ``None`` when it holds no JSON of this form.

    Words around the JSON are passed over; rows that lack a field, or hold something else than text, are left out.
    """
    start = text.find("{")
    while start >= 0:
        value: Any = None
        with suppress(ValueError):
            value, _ = json.JSONDecoder().raw_decode(text, start)
        if isinstance(value, dict) and isinstance(value.get(RESULTS), list):
            rows: list[list[Any]] = [
                [row.get(key) for key in (CODE, SUBCODE, SPAN)] for row in value[RESULTS] if isinstance(row, dict)
            ]
            return [Annotation(*row) for row in rows if all(isinstance(entry, str) for entry in row)]
        start = text.find("{", start + 1)
    return None
