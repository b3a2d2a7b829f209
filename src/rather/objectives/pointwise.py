"""Losses of single responses: each is pushed up or down about a baseline, whatever it was compared with.

reward     r = beta (s(policy) - s(reference))
baseline   b: a mean reward, detached
desirable    d curve(r - b)        every winner of an edge, every response marked desirable
undesirable  u curve(b - r)        every loser of an edge, every response marked undesirable
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from rather.objectives.base import Objective
from rather.objectives.baselines import Baseline
from rather.objectives.links import MarginLink
from rather.objectives.outcome import Outcome, Term, undesirable
from rather.objectives.scores import Layout, Reduction, Scores, reduce_elements, segment_sum


class Pointwise(Objective):
    """A curve applied to the reward of each judged response; for pairs, lists and unpaired marks alike.

    Both ends of each edge are judged (a response in two edges twice), and each marked response. Edges are averaged
    over edges, marks over marked responses; each is a term of its own.

    Args:
        beta: scale of the log-ratio.
        curve: loss of a response as a function of its signed distance from the baseline.
        baseline: what a reward is measured against.
        reduce: from elements to a response score.
        desirable_weight, undesirable_weight: factors on the two kinds of response.
        edge_scale: an edge costs this times the sum over its ends: 1 is the loss of a pair; 1/2 makes the mean over
            edges the mean over their ends, so that pairs count as the marks they stand for.
    """

    def __init__(
        self,
        *,
        beta: float,
        curve: MarginLink,
        baseline: Baseline,
        reduce: Reduction = "sum",
        desirable_weight: float = 1.0,
        undesirable_weight: float = 1.0,
        edge_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.beta, self.edge_scale = beta, edge_scale
        self.reduce: Reduction = reduce
        self.curve, self.baseline = curve, baseline
        self.desirable_weight, self.undesirable_weight = desirable_weight, undesirable_weight
        self.couples_batch = baseline.couples_batch
        self.needs_lengths = reduce == "mean"

    def forward(self, policy: Scores, reference: Scores | None, layout: Layout) -> Outcome:
        if reference is None:
            raise ValueError("this objective compares with a reference; pass its scores")
        of_policy = reduce_elements(policy, layout.lengths, self.reduce)
        of_reference = reduce_elements(reference.detach(), layout.lengths, self.reduce)
        rewards = self.beta * (of_policy - of_reference.to(of_policy))
        marked = torch.nonzero(layout.desirable).flatten()
        judged = rewards[torch.cat([layout.winner, layout.loser, marked])].detach()
        baseline = self.baseline(judged)
        ends = self.pushed(rewards[layout.winner] - baseline, 1) + self.pushed(rewards[layout.loser] - baseline, -1)
        per_edge = self.edge_scale * ends
        of_marked = self.pushed(rewards[marked] - baseline, layout.desirable[marked])
        detached = rewards.detach()
        return Outcome(
            terms=(
                Term("preference", per_edge * layout.weight.to(per_edge), "edges"),
                Term("marked", of_marked, "marked"),
            ),
            rewards=detached,
            margins=detached[layout.winner] - detached[layout.loser],
            per_edge=per_edge,
            logps=segment_sum(policy.elements.detach(), policy.response, layout.responses),
            observations={"rewards": judged},
            undesirable=undesirable(of_policy, of_reference, layout),
        )

    def pushed(self, distance: Tensor, sign: int | Tensor) -> Tensor:
        """[N] losses of rewards at a distance [N] from the baseline, pushed up (+1) or down (-1)."""
        sign = torch.as_tensor(sign, device=distance.device).expand_as(distance)
        up = (sign > 0).to(distance)
        weight = self.desirable_weight * up + self.undesirable_weight * (1 - up)
        return weight * self.curve.curve(sign * distance)

    def advance(self, observations: Mapping[str, Tensor]) -> None:
        self.baseline.advance(observations["rewards"])
