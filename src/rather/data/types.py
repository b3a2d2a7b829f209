"""The one normalised form of preference data.

Whatever file it came from, an example is a prompt, its responses, and edges "this one rather than that one".
A pair is one edge; a ranking of three has three; one positive and k negatives have k edges with the same winner;
unpaired feedback has no edge and a desirable/undesirable mark per response.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

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


Role = Literal["rationale", "degree", "intra", "inter"]
"""What an auxiliary response is there for: a reason to imitate, a text whose degree is told, a contrast of prompts
(intra) or of margins (inter). A further term of a loss that needs responses of its own adds a word here."""

ROLES: tuple[Role, ...] = get_args(Role)


@dataclass(frozen=True, slots=True)
class Auxiliary:
    """A response beside those that were compared, for a further term of the loss.

    Attributes:
        prompt: its own prompt; ``None`` stands for the comparison's.
        group: number within the comparison; responses of one role and group are one item of the term (the ends of a
            contrast).
        sign: factor on its score in the sum over its group.
        label: class, where the term tells classes apart.
    """

    role: Role
    response: Response
    prompt: Prompt | None = None
    group: int = 0
    sign: float = 1.0
    label: int = -1


@dataclass(frozen=True, slots=True)
class Comparison:
    """A prompt, its responses and what is known about their order.

    Attributes:
        id: stable identifier; given by the data or a hash of the content, never a position.
        desirable: per response, for unpaired feedback; empty when the data is made of edges.
        scores: per response, where the data holds ratings; empty otherwise.
        auxiliary: further responses, behind ``responses`` in every numbering; those with equal prompts stand together,
            those that share the comparison's prompt first (``with_auxiliary`` sees to it).
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
    auxiliary: tuple[Auxiliary, ...] = ()

    def with_auxiliary(self, items: Iterable[Auxiliary]) -> Comparison:
        """The same comparison with these further responses, in the order that a policy encodes them."""
        named = [replace(item, prompt=None) if item.prompt == self.prompt else item for item in items]
        prompts: list[Prompt | None] = [None]
        for item in named:
            if item.prompt not in prompts:
                prompts.append(item.prompt)
        ordered = sorted(named, key=lambda item: prompts.index(item.prompt))
        return replace(self, auxiliary=tuple(ordered))

    def parts(self) -> list[Comparison]:
        """The comparison as one prompt with its responses, then one for each further prompt; without edges."""
        shared = [item.response for item in self.auxiliary if item.prompt is None]
        own = replace(self, responses=(*self.responses, *shared), auxiliary=(), edges=(), desirable=())
        found: list[Comparison] = [own]
        for item in self.auxiliary:
            if item.prompt is None:
                continue
            if len(found) > 1 and found[-1].prompt == item.prompt:
                found[-1] = replace(found[-1], responses=(*found[-1].responses, item.response))
            else:
                found.append(replace(found[0], prompt=item.prompt, responses=(item.response,)))
        return found
