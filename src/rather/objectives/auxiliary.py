"""Likelihood of auxiliary responses: something beside the answers to imitate."""

from __future__ import annotations

from typing import Literal

from torch import nn
from torch.nn.functional import logsigmoid

from rather.data.types import Role
from rather.objectives.outcome import Term
from rather.objectives.scores import Layout, Reduction, Scores, reduce_elements

LikelihoodLink = Literal["log", "logsigmoid"]


class AuxiliaryLikelihood(nn.Module):
    """Raises the likelihood of the auxiliary responses of one role, under their own prompts.

        log           -gamma l               its slope in l is -gamma everywhere
        logsigmoid    -log sigma(gamma l)    its slope lies between -gamma and -gamma / 2, for l <= 0

    l is the policy's log-likelihood of the response; the reference has no part in it. The term is a mean over edges,
    so that a comparison without such a response counts as 0.

    Args:
        gamma: weight of l. Left out (``log`` only), the term is the mean of -log p over all elements of these
            responses in the optimizer step: gamma = 1 / (their mean length in the step), where each edge has one.
        reduce: l is the sum or the mean over the response's elements; only with a gamma.
    """

    def __init__(
        self, role: Role, gamma: float | None, *, link: LikelihoodLink = "log", reduce: Reduction = "sum"
    ) -> None:
        super().__init__()
        if gamma is None and (link, reduce) != ("log", "sum"):
            raise ValueError("without gamma the link is log and l the sum over elements")
        self.role: Role = role
        self.gamma, self.link = gamma, link
        self.reduce: Reduction = reduce
        self.needs_lengths = gamma is None or reduce == "mean"

    def forward(self, policy: Scores, reference: Scores | None, layout: Layout) -> Term:
        rows = layout.auxiliary.of_role(self.role).response
        likelihood = reduce_elements(policy, layout.lengths, self.reduce)[rows]
        seen = {"logps": likelihood.detach()}
        if self.gamma is None:
            return Term(self.role, -likelihood, f"{self.role}_elements", metrics=seen)
        if self.link == "log":
            return Term(self.role, -likelihood, "edges", self.gamma, seen)
        return Term(self.role, -logsigmoid(self.gamma * likelihood), "edges", metrics=seen)
