"""The one normalised form of preference data.

Whatever file it came from, an example is a prompt, its responses, and edges "this one rather than that one".
A pair is one edge; a ranking of three has three; one positive and k negatives have k edges with the same winner;
unpaired feedback has no edge and a desirable/undesirable mark per response.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Message = Mapping[str, Any]
"""One chat turn: at least ``role`` and ``content``."""

Prompt = Any
"""Text: ``str`` (raw text) or ``tuple[Message, ...]`` (a conversation). Other policies define their own."""

Response = Any
"""Text: ``str``, or ``tuple[Message, ...]`` when the response spans several turns. Other policies define their own."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where an example was read: a file (or dataset) and its 1-based line or row."""

    path: str
    row: int

    def __str__(self) -> str:
        return f"{self.path}:{self.row}"


@dataclass(frozen=True, slots=True)
class Edge:
    """Response ``winner`` was preferred to response ``loser`` (indices into ``Comparison.responses``).

    Attributes:
        weight: multiplies the edge's loss.
        probability: probability that the winner really is the better one; ``None`` when only the order is known.
        margin: how much better the winner is, in the unit of the reward; ``None`` when unknown.
    """

    winner: int
    loser: int
    weight: float = 1.0
    probability: float | None = None
    margin: float | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """A prompt, its responses and what is known about their order.

    Attributes:
        id: stable identifier; given by the data or a hash of the content, never a position.
        desirable: per response, for unpaired feedback; empty when the data is made of edges.
        scores: per response, where the data holds ratings; empty otherwise.
        extras: any further columns a method may need (rationale, annotator, reference scores, stored noise).
    """

    id: str
    prompt: Prompt
    responses: tuple[Response, ...]
    edges: tuple[Edge, ...] = ()
    desirable: tuple[bool, ...] = ()
    scores: tuple[float, ...] = ()
    extras: Mapping[str, Any] = field(default_factory=dict)
    source: Source | None = None
