"""Maximum likelihood of the targets, as an objective of its own."""

from __future__ import annotations

from typing import Literal

from rather.objectives.anchors import Likelihood
from rather.objectives.base import Objective
from rather.objectives.outcome import Outcome
from rather.objectives.scores import Layout, Scores, reduce_elements, segment_sum


class Supervised(Objective):
    """Negative log-likelihood of winners, desirable and lone responses; losers are only looked at.

    The implicit reward is the policy's score itself. ``per_edge`` is the winner's mean negative log-likelihood per
    element.

    Args:
        per: what the loss is a mean over, see ``Likelihood``.
    """

    needs_reference = False

    def __init__(self, per: Literal["elements", "responses", "sums"] = "elements") -> None:
        super().__init__()
        self.likelihood = Likelihood(1.0, per)
        self.needs_lengths = self.likelihood.needs_lengths

    def forward(self, policy: Scores, reference: Scores | None, layout: Layout) -> Outcome:
        logps = segment_sum(policy.elements.detach(), policy.response, layout.responses)
        return Outcome(
            terms=(self.likelihood(policy, reference, layout),),
            rewards=logps,
            margins=logps[layout.winner] - logps[layout.loser],
            per_edge=-reduce_elements(policy, layout.lengths, "mean")[layout.winner],
            logps=logps,
        )
