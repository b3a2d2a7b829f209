"""What is measured in one process, and what comes back."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

Contender = Literal["rather", "rather lean", "trl default", "trl best"]
"""``rather lean``: with gradient checkpointing, which trades a part of the speed for memory."""

PEERS: tuple[Contender, ...] = ("trl default", "trl best")


PACKED = "packed"
"""A form of the benchmarks alone: one row without padding, in which every response has a prompt of its own."""


class Short:
    """What jobs of every kind are: so many steps, and a file for the process that takes them."""

    steps: int
    warmup: int

    @property
    def total(self) -> int:
        return self.warmup + self.steps

    def save(self, path: Path) -> Path:
        told: Any = self
        path.write_text(json.dumps(asdict(told)))
        return path


@dataclass(frozen=True)
class Job(Short):
    """A short training run of one contender.

    Attributes:
        contender: whose code runs.
        model: a folder or hub name, loaded in float32.
        tokens: a file of ``benchmarks.tokens.save``; (warmup + steps) * batch comparisons.
        batch: comparisons of an optimizer step.
        steps, warmup: measured steps, and steps before them.
        precision: type of the matrix products.
        lora: train adapters of rank 16 on all linear layers instead of all weights.
        schedule: of the learning rate.
        peer_batch: most pairs in one forward pass of a peer, in passes of equal size; ``None``: the whole step.
        scoring: afterwards also time a forward pass with and without gradient.
        allocator: let the contender raise glibc's thresholds; the peer does so only at its best.
        fused: adapters in one operation with their layers; else as peft has them.
        form: how ``rather`` lays out a batch, where that is not its own choice (``full``, ``padded``, ``packed``).
        settings: further settings of ``rather.train``.
    """

    contender: Contender
    model: str
    tokens: str
    batch: int
    steps: int
    warmup: int = 1
    precision: Literal["bf16", "fp32"] = "bf16"
    lora: bool = False
    learning_rate: float = 5e-6
    schedule: Literal["constant", "linear"] = "constant"
    peer_batch: int | None = None
    scoring: bool = False
    allocator: bool = True
    fused: bool = True
    form: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    beta: float = 0.1
    seed: int = 42

    @staticmethod
    def read(path: Path) -> Job:
        return Job(**json.loads(path.read_text()))


@dataclass
class Timed:
    """One optimizer step.

    Attributes:
        wall, cpu: seconds; ``cpu`` is of all threads of the process.
        positions: token positions that the training forward passes computed.
    """

    wall: float
    cpu: float
    loss: float
    positions: int


@dataclass
class Result:
    """What a job found; memory in MiB.

    Attributes:
        steps: all of them, those of the warm-up first.
        needed: token positions that each step needs at least.
        reference: ``wall`` and ``cpu`` seconds of the reference pass over all comparisons; ``None`` where the
            reference is computed inside the steps.
        memory: ``loaded`` (after loading the model), ``peak``, and ``above``, the difference.
        scoring: ``train`` and ``score``: ``wall`` and ``cpu`` seconds of a forward pass over one batch with and
            without gradient.
        parameters: ``total``, ``trained`` and ``body`` (without embeddings and head).
        reference_logps: of the chosen and the rejected answer of each pair, in the order in which they are trained on;
            ``None`` where the reference is computed inside the steps.
        notes: what this contender did that the reader should know.
    """

    steps: list[Timed]
    needed: list[int]
    reference: dict[str, float] | None
    memory: dict[str, float]
    scoring: dict[str, dict[str, float]] | None
    parameters: dict[str, int]
    device: str
    reference_logps: list[tuple[float, float]] | None = None
    notes: list[str] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        return asdict(self)
