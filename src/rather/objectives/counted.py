"""Ends of an edge that are formulas over what the model accepts (arXiv 2412.17696)."""

from __future__ import annotations

import torch
from torch import Tensor

from rather.logic.counting import log_count
from rather.objectives.margins import Matched
from rather.objectives.scores import Layout


class CountedRows(Matched):
    """The ends are log WMC(tick) and log WMC(cross): log weighted counts of the rows for and against a formula.

    The weights are the probabilities of both responses, so scores have to be log-probabilities; their difference is
    rho. In a formula without reference, the reference is not looked at.

    Args:
        tick, cross: [M, n] truth values of the rows, over (Mw, Ml) or, with reference, (Mw, Ml, Refw, Refl).
    """

    tick: Tensor
    cross: Tensor

    def __init__(self, tick: Tensor, cross: Tensor) -> None:
        super().__init__()
        self.register_buffer("tick", tick, persistent=False)
        self.register_buffer("cross", cross, persistent=False)

    def forward(self, policy: Tensor, reference: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
        sides = (policy,) if self.tick.shape[1] == 2 else (policy, reference)
        logps = torch.stack([side[end] for side in sides for end in (layout.winner, layout.loser)], -1)
        return log_count(logps, self.tick), log_count(logps, self.cross)
