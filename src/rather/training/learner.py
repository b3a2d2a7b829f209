"""What is wrapped and distributed: the network together with the objective's learned parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from rather.objectives.base import Objective
from rather.objectives.outcome import Outcome
from rather.objectives.scores import Scores
from rather.policies.base import Batch, Draw, Policy


class Learner(nn.Module):
    """Scoring and loss in one forward pass.

    Wrappers (DDP, FSDP2) hook a module's ``forward``. A policy may call parts of its network (the body, then the head
    on some positions), so what is wrapped is not the network but this module: whatever ``score`` calls is inside the
    pass.
    """

    def __init__(self, policy: Policy, objective: Objective) -> None:
        super().__init__()
        self.network = policy.network
        self.objective = objective
        self.score = policy.score

    def forward(
        self, batch: Batch, draw: Draw, reference: Scores | None = None, counts: Mapping[str, float] | None = None
    ) -> Any:
        """The policy's ``Scores``; with ``counts``, (loss under these denominators, ``Outcome``, detached
        ``Scores``)."""
        scores = self.score(self.network, batch, draw)
        if counts is None:
            return scores
        outcome: Outcome = self.objective(scores, reference, batch.layout)
        return outcome.loss(counts), outcome, scores.detach()


def trained_parameters(module: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def count_parameters(module: nn.Module) -> dict[str, int]:
    """``{"trained", "total"}`` numbers of parameters; tied ones once."""
    every: list[Any] = list(module.parameters())
    return {"trained": sum(p.numel() for p in every if p.requires_grad), "total": sum(p.numel() for p in every)}
