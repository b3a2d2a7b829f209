"""Anchors: terms added to a preference loss that hold the policy near something."""

from __future__ import annotations

from typing import Literal

from torch import nn

from rather.objectives.outcome import Term
from rather.objectives.scores import Layout, Scores, reduce_elements


class Likelihood(nn.Module):
    """Negative log-likelihood of the preferred responses (SFT).

    Args:
        coefficient: factor on the term.
        per: ``elements``: mean over all elements of the targets in the optimizer step (long answers weigh more);
            ``responses``: mean over targets of each one's mean; ``sums``: mean over targets of each one's sum.
    """

    def __init__(self, coefficient: float, per: Literal["elements", "responses", "sums"] = "elements") -> None:
        super().__init__()
        self.coefficient, self.per = coefficient, per
        self.needs_lengths = per != "sums"

    def forward(self, policy: Scores, reference: Scores | None, layout: Layout) -> Term:
        targets = layout.targets()
        how = "mean" if self.per == "responses" else "sum"
        values = -reduce_elements(policy, layout.lengths, how)[targets]
        unit = "target_elements" if self.per == "elements" else "targets"
        return Term("sft", values, unit, self.coefficient)
