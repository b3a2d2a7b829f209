"""The protocol between the training loop and a policy.

The loop knows comparisons, batches, draws and scores; it never knows whether they are text, images or points.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from rather.data.types import Comparison
from rather.objectives.scores import Layout, Scores

Draw = Any
"""The randomness of a score that policy and reference must share (timestep and noise); ``None`` for text."""


@dataclass(frozen=True)
class Encoded:
    """A comparison in the policy's own numbers.

    Attributes:
        comparison: where it came from (id, edges).
        lengths: elements (tokens, latent values) of each response.
        cost: work in the unit of the batch budget (tokens for text).
        inputs: whatever ``Policy.collate`` needs.
        bucket: comparisons that can be collated have equal ones.
    """

    comparison: Comparison
    lengths: tuple[int, ...]
    cost: int
    inputs: Any
    bucket: Hashable = None


@dataclass(frozen=True)
class Batch:
    """Some comparisons, ready for a forward pass. ``inputs`` is a flat mapping of tensors and plain values."""

    layout: Layout
    inputs: dict[str, Any]
    ids: tuple[str, ...]

    def to(self, device: torch.device | str) -> Batch:
        moved = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in self.inputs.items()}
        return Batch(self.layout.to(device), moved, self.ids)


class Policy(Protocol):
    """A generative model that scores responses.

    Attributes:
        network: what is trained, wrapped and saved. ``score`` always gets the network as an argument, so that a
            wrapped copy (DDP), a frozen copy or an averaged copy is scored by the same code.
        kind: ``language``, ``diffusion``, ``flow``, ``catalogue``, ...
        provides: of ``likelihood`` (scores are log-probabilities), ``tokens``, and ``auxiliary`` (responses with
            prompts of their own are encoded), ``noising`` (``draw`` takes a rule of ``rather.policies.noising`` and a
            network that inverts), and the extras that ``score`` can be asked for (``Scores.extras``).

    A policy that provides extras takes them as ``score(..., wants=names, reference=scores)``, where the reference's
    scores are needed for ``kl`` alone, and says ``facts()`` of its model, from which objectives size their parameters:
    ``width`` of a state, number of ``layers``, the kinds of the columns of ``activations``. One that provides
    ``weight`` takes ``encode(comparisons, weigh=rule)`` (``rather.objectives.token_weights``). One that can tell its
    work says ``work(encoded, batch)`` (``rather.policies.work``). One whose draws have a ``timestep`` [R] and whose scores
    are minus half a squared error says how many ``timesteps`` there are, and is told apart by them in an evaluation. One
    that does something in training alone (captions left out) does it in ``in_training(draw, batch, seed)``, which gives
    the draw that is trained on.
    """

    network: nn.Module
    kind: str
    provides: frozenset[str]

    def encode(self, comparisons: Sequence[Comparison]) -> list[Encoded]:
        """Encode comparisons; those that cannot be used are left out and counted (see the policy's report)."""
        ...

    def collate(self, encoded: Sequence[Encoded]) -> Batch:
        """A batch of comparisons of one bucket."""
        ...

    def draw(self, batch: Batch, seed: int) -> Draw:
        """The batch's randomness, a function of ``seed`` and each example's key alone (not of its neighbours)."""
        ...

    def score(self, network: nn.Module, batch: Batch, draw: Draw) -> Scores: ...

    def adapters_off(self, network: nn.Module) -> AbstractContextManager[None] | None:
        """A context in which ``network`` is the model before adapters; ``None`` when it has none."""
        ...

    def fingerprint(self) -> str:
        """Hash of everything that decides a reference score: weights, template, length limits, numeric type."""
        ...

    def save(self, network: nn.Module, folder: Path) -> None:
        """Write ``network`` so that its own ecosystem loads it (transformers, peft, diffusers); safetensors only."""
        ...
