"""Maximum likelihood of the targets, as an objective of its own."""

from __future__ import annotations

from typing import Literal

from torch import nn

from rather.objectives.anchors import Likelihood
from rather.objectives.base import Objective
from rather.objectives.element_values import Valued
from rather.objectives.outcome import Outcome
from rather.objectives.scores import Layout, Scores, reduce_elements, segment_sum


class Supervised(Objective):
    """Negative log-likelihood of winners, desirable and lone responses; losers are only looked at.

    The implicit reward is the policy's score itself. ``per_edge`` is the winner's mean negative log-likelihood per
    element.

    Args:
        per: what the loss is a mean over, see ``Likelihood``.
        coefficient: factor on the loss.
        element_values: from (policy, reference, layout) to scores that take the place of the policy's in the loss
            (``element_values.Valued``).
    """

    needs_reference = False

    def __init__(
        self,
        per: Literal["elements", "responses", "sums"] = "elements",
        coefficient: float = 1.0,
        element_values: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.likelihood = Likelihood(coefficient, per)
        self.element_values = element_values
        self.needs_lengths = self.likelihood.needs_lengths

    def forward(self, policy: Scores, reference: Scores | None, layout: Layout) -> Outcome:
        logps = segment_sum(policy.elements.detach(), policy.response, layout.responses)
        valued = self.element_values(policy, reference, layout) if self.element_values else Valued(policy)
        return Outcome(
            terms=(self.likelihood(valued.policy, reference, layout), *valued.terms),
            rewards=logps,
            margins=logps[layout.winner] - logps[layout.loser],
            per_edge=-reduce_elements(valued.policy, layout.lengths, "mean")[layout.winner],
            logps=logps,
            metrics=valued.metrics,
        )
