"""Parts of an objective that move or tell: what they observe in a forward pass, and when they take it in.

A forward pass changes nothing. A moving part says what it saw (``observe``); the loop gathers that over the whole
optimizer step and all processes and hands it back (``advance``), so that how a step is split does not matter. What a part
remembers is a buffer: saved, resumed and moved with the model. A part may also tell numbers for the run's metrics
(``report``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from torch import Tensor, nn

from rather.objectives.links import Pair
from rather.objectives.scores import Layout


class Selection(NamedTuple):
    """Which edges of each list take part, and how. All [K] and without gradient.

    Attributes:
        kept: edges that take part.
        factor: on beta, of each edge.
        above: lead of the winner over the loser, in the policy's scores.
        below: lead of the loser over the mean of those left out.
    """

    kept: Tensor
    factor: Tensor
    above: Tensor
    below: Tensor


@dataclass(frozen=True)
class Seen:
    """What a forward pass of a preference objective saw; all detached.

    Attributes:
        policy, reference: [R] transformed response scores; 0 where there is no reference.
        pair: scaled rewards of what the link judged, [N]: edges, or lists for a pooled objective.
        key: [N] stable keys of what was judged (``tables.edge_keys``, or the comparison's own key).
        selection: which edges took part, where a selection chose.
    """

    policy: Tensor
    reference: Tensor
    layout: Layout
    pair: Pair
    key: Tensor
    selection: Selection | None = None


@runtime_checkable
class MovingPart(Protocol):
    """What a module inside an objective has to define to move; any part may (labels, offset, weights, link, ...)."""

    def observe(self, seen: Seen) -> Mapping[str, Tensor]:
        """[n, ...] tensors to be joined over the step along the first axis; names are the part's own."""
        ...

    def advance(self, observations: Mapping[str, Tensor]) -> None:
        """Take in what was observed in a whole optimizer step."""
        ...


@runtime_checkable
class ReportingPart(Protocol):
    """What a module inside an objective has to define to tell numbers."""

    def report(self, seen: Seen) -> Mapping[str, Tensor]:
        """[n] numbers by name, detached, whose means are logged; the same names every time."""
        ...


def moving_parts(objective: nn.Module) -> Iterator[tuple[str, MovingPart]]:
    """Every moving module inside an objective, with its path."""
    for path, module in objective.named_modules():
        if path and isinstance(module, MovingPart):
            yield path, module


def observe(objective: nn.Module, seen: Seen) -> dict[str, Tensor]:
    """What all moving parts observe, as ``<path of the part>/<name>``."""
    return {
        f"{path}/{name}": values
        for path, part in moving_parts(objective)
        for name, values in part.observe(seen).items()
    }


def report(objective: nn.Module, seen: Seen) -> dict[str, Tensor]:
    """What all reporting parts tell, as ``<path of the part>/<name>``."""
    return {
        f"{path}/{name}": values
        for path, part in objective.named_modules()
        if path and isinstance(part, ReportingPart)
        for name, values in part.report(seen).items()
    }


def advance(objective: nn.Module, observations: Mapping[str, Tensor]) -> None:
    """Give every moving part its own observations back."""
    for path, part in moving_parts(objective):
        start = f"{path}/"
        part.advance({name.removeprefix(start): v for name, v in observations.items() if name.startswith(start)})
