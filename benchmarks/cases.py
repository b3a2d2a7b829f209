"""What is compared with TRL, and what was aimed at."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.job import PEERS, Contender


@dataclass(frozen=True)
class Case:
    """Comparisons of one shape, trained on by each contender.

    Attributes:
        prompt, answer: tokens of synthetic comparisons; 0: real pairs.
        negatives: rejected answers of a comparison.
        batch: comparisons of a step.
        peers: contenders beside ``rather``.
        lean: measure ``rather lean`` too.
        peer_batch: most pairs in one forward pass of a peer, where a whole step would not fit into 24 GB.
    """

    name: str
    title: str
    lora: bool = False
    prompt: int = 0
    answer: int = 0
    negatives: int = 1
    batch: int = 8
    peers: tuple[Contender, ...] = PEERS
    peer_batch: int | None = None
    lean: bool = False

    @property
    def contenders(self) -> tuple[Contender, ...]:
        return ("rather", *(("rather lean",) if self.lean else ()), *self.peers)

    @property
    def real(self) -> bool:
        return self.prompt == 0


BEST: tuple[Contender, ...] = ("trl best",)

CASES = (
    Case("full", "real pairs, all weights", lean=True),
    Case("lora", "real pairs, LoRA of rank 16", lora=True),
    Case("long-prompt", "prompt of 384 tokens, answers of 16", prompt=384, answer=16, peers=BEST),
    Case("long-answers", "prompt of 16 tokens, answers of 192", prompt=16, answer=192, peers=BEST),
    Case("k1", "1 negative, prompt of 300, answers of 12", prompt=300, answer=12, peers=BEST),
    Case("k3", "3 negatives", prompt=300, answer=12, negatives=3, batch=3, peers=BEST),
    Case("k7", "7 negatives", prompt=300, answer=12, negatives=7, batch=1, peers=BEST),
    Case("k15", "15 negatives", prompt=300, answer=12, negatives=15, batch=1, peers=BEST, peer_batch=5),
)
"""Batches of 8 pairs, or as many lists as come near to that."""


@dataclass(frozen=True)
class Target:
    """``quantity`` of ``case`` against ``peer`` is to be at least ``wanted`` (``most``: at most).

    Attributes:
        quantity: ``step`` (time of a step), ``epoch`` (with its share of the reference pass), ``memory`` (peak above
            the loaded model), each as the peer's over that of ``ours``; ``computed`` (token positions per needed one).
    """

    case: str
    quantity: str
    peer: Contender
    wanted: float
    most: bool = False
    ours: Contender = "rather"


TARGETS = (
    Target("full", "step", "trl default", 5.5),
    Target("full", "step", "trl best", 3.5),
    Target("full", "epoch", "trl default", 5.0),
    Target("full", "epoch", "trl best", 3.5),
    Target("lora", "step", "trl default", 5.5),
    Target("lora", "step", "trl best", 3.5),
    Target("k1", "step", "trl best", 1.8),
    Target("k3", "step", "trl best", 3.2),
    Target("k7", "step", "trl best", 5.8),
    Target("k15", "step", "trl best", 9.5),
    Target("full", "memory", "trl default", 3.0),
    Target("full", "memory", "trl best", 4.0),
    Target("full", "step", "trl default", 5.5, ours="rather lean"),
    Target("full", "step", "trl best", 3.5, ours="rather lean"),
    Target("full", "memory", "trl default", 3.0, ours="rather lean"),
    Target("full", "memory", "trl best", 4.0, ours="rather lean"),
    Target("full", "computed", "rather", 1.05, most=True),
)


def target(case: str, quantity: str, peer: str) -> Target | None:
    """What default settings aim at."""
    wanted = (case, quantity, peer, "rather")
    return next((t for t in TARGETS if (t.case, t.quantity, t.peer, t.ours) == wanted), None)
