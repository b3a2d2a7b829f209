"""Weights of tokens that follow from the data alone: where in a response a token stands, and whether its rival has it.

They are made once, when data is encoded (``Policy.encode(comparisons, weigh=rule)``), and travel with the tokens to the
scores (``Scores.extras["weight"]``). A rule sees texts and ids, no tokenizer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rather.data.json_values import same_key, values_of
from rather.data.types import Comparison

Alignment = Literal["position", "difflib"]
Occurrences = Literal["value", "everywhere"]
Weights = NDArray[np.float32]


@dataclass(frozen=True)
class Pieces:
    """The tokens of a response as pieces of its text.

    Attributes:
        text: the response; what the tokens decode to where the response itself is not in that.
        own: whether ``text`` is the response itself.
        ids: [n] tokens.
        starts, ends: [n] the characters of ``text`` that a token is part of; outside of it for what a template adds.
    """

    text: str
    own: bool
    ids: NDArray[Any]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]

    def overlap(self, start: int, end: int) -> NDArray[np.bool_]:
        """[n] tokens that share a character with [start, end)."""
        return (self.starts < end) & (self.ends > start)


Weigh = Callable[[Comparison, Sequence[Pieces]], list[Weights]]
"""(comparison, pieces of each compared response) -> weights [n] of each one's tokens.

Raises ``ValueError`` where the comparison cannot be used, with the reason."""


def from_column(comparison: Comparison, pieces: Sequence[Pieces]) -> list[Weights]:
    """Weights that the data brings: the column ``spans``, for each response a list of (start, end, weight).

    Start and end count characters of the response; a token that overlaps several spans takes the largest weight, one
    that overlaps none has 1.
    """
    weights = [np.ones(len(piece.ids), np.float32) for piece in pieces]
    given = comparison.extras.get("spans")
    if given is None:
        return weights
    if not isinstance(given, Sequence) or len(given) != len(pieces):
        raise ValueError("the column spans has to hold one list for each response")
    for of_one, piece, spans in zip(weights, pieces, given, strict=True):
        if spans and not piece.own:
            raise ValueError("the template changes a response, so its spans cannot be found")
        largest = np.full(len(of_one), -np.inf)
        for start, end, weight in (_span(span) for span in spans or ()):
            here = piece.overlap(start, end)
            largest[here] = np.maximum(largest[here], weight)
        of_one[:] = np.where(np.isfinite(largest), largest, of_one)
    return weights


def _span(span: Any) -> tuple[int, int, float]:
    try:
        start, end, weight = span
        found = int(start), int(end), float(weight)
    except (TypeError, ValueError):
        raise ValueError(f"a span has to be [start, end, weight], not {span!r}") from None
    if not (0 <= found[0] < found[1] and 0 <= found[2] < np.inf):
        raise ValueError(f"a span has to be [start, end, weight] with 0 <= start < end and weight >= 0, not {span!r}")
    return found


class ByTypeAndDifference:
    """TAB-PO's weights (arXiv 2603.00025, as released): the type of the value that a token is part of, and whether the
    other response has another token there.

        w = max(column's weight, weight of each value it overlaps) * (difference where it differs)

    Args:
        values: key of a JSON value -> weight of its tokens; ``*`` for keys that are not named. Keys are compared by
            their letters and digits.
        difference: factor on tokens that differ between the ends of an edge.
        alignment: ``position``: the k-th token with the k-th, as far as both go (as released; whatever follows an
            insertion differs). ``difflib``: what an alignment of both does not match.
        occurrences: ``value``: a value where it stands; ``everywhere``: wherever its text occurs in the response (as
            released: a name inside another value is weighted too).
    """

    def __init__(
        self,
        values: Mapping[str, float],
        difference: float = 1.0,
        alignment: Alignment = "position",
        occurrences: Occurrences = "value",
    ) -> None:
        self.other = values.get("*", 1.0)
        self.values = {same_key(key): weight for key, weight in values.items() if key != "*"}
        self.difference = difference
        self.alignment: Alignment = alignment
        self.occurrences: Occurrences = occurrences

    def __call__(self, comparison: Comparison, pieces: Sequence[Pieces]) -> list[Weights]:
        weights = from_column(comparison, pieces)
        for of_one, piece in zip(weights, pieces, strict=True):
            for start, end, weight in self._typed(piece.text):
                here = piece.overlap(start, end)
                of_one[here] = np.maximum(of_one[here], weight)
        if self.difference != 1.0:
            differ = [np.zeros(len(piece.ids), np.bool_) for piece in pieces]
            for edge in comparison.edges:
                one, other = differing(pieces[edge.winner].ids, pieces[edge.loser].ids, self.alignment)
                differ[edge.winner] |= one
                differ[edge.loser] |= other
            for of_one, where in zip(weights, differ, strict=True):
                of_one[where] *= self.difference
        return weights

    def _typed(self, text: str) -> list[tuple[int, int, float]]:
        """(start, end, weight) of every value, or of every occurrence of its text."""
        found: list[tuple[int, int, float]] = []
        for key, start, end in values_of(text):
            weight = self.values.get(same_key(key), self.other)
            if weight == 1.0 or start == end:
                continue
            found.append((start, end, weight))
            if self.occurrences == "everywhere":
                value, at = text[start:end], text.find(text[start:end])
                while at >= 0:
                    found.append((at, at + len(value), weight))
                    at = text.find(value, at + 1)
        return found


def differing(
    one: NDArray[Any], other: NDArray[Any], alignment: Alignment
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which tokens of two responses differ, [n] and [m]."""
    marks = np.zeros(len(one), np.bool_), np.zeros(len(other), np.bool_)
    if alignment == "position":
        both = min(len(one), len(other))
        for mark in marks:
            mark[:both] = one[:both] != other[:both]
        return marks
    matcher = SequenceMatcher(None, one.tolist(), other.tolist(), autojunk=False)
    for tag, start, end, other_start, other_end in matcher.get_opcodes():
        if tag != "equal":
            marks[0][start:end] = True
            marks[1][other_start:other_end] = True
    return marks
