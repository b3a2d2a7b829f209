"""The barrier of TAB-PO: likelihood of those tokens of a preferred response of which the policy is not yet sure."""

from __future__ import annotations

import torch
from torch import nn

from rather.objectives.element_weights import CarriedWeights
from rather.objectives.outcome import Term
from rather.objectives.scores import Layout, Scores, segment_sum


class ConfidenceBarrier(nn.Module):
    """Mean negative log-likelihood of unsure tokens (arXiv 2603.00025, as released); an anchor.

        g_t = 1[log pi(y_t) < log tau]                                  no gradient through the gate
        B   = sum g_t w_t (-log pi(y_t)) / max(1, sum g_t w_t)          over a target, w of mean 1; 0 when none is gated

    Mean over the targets (winners, for pairs). The floor 1 of the denominator makes a lone gated token of small weight
    count for less. Logged: ``gated``, the share of target tokens below the threshold.

    Args:
        coefficient: factor on the term.
        tau: probability from which a token counts as sure; 0: none is gated, above 1: every one is.
        weights: weights of the tokens, as in the preference term.
    """

    needs_lengths = True

    def __init__(self, coefficient: float, tau: float, weights: CarriedWeights | None = None) -> None:
        super().__init__()
        self.coefficient, self.tau, self.weights = coefficient, tau, weights

    def forward(self, policy: Scores, reference: Scores | None, layout: Layout) -> Term:
        logps = policy.elements
        threshold = torch.tensor(self.tau, dtype=logps.dtype, device=logps.device).log()
        gate = logps.detach() < threshold
        weight = gate.to(logps)
        if self.weights is not None:
            weight = weight * self.weights(policy, reference, layout)
        above, below = (segment_sum(values, policy.response, layout.responses) for values in (-logps * weight, weight))
        targets = layout.targets()
        wanted = torch.zeros(layout.responses, dtype=torch.bool, device=logps.device)
        wanted[targets] = True
        metrics = {"gated": gate[wanted[policy.response]].to(above)}
        values = above[targets] / below[targets].clamp(min=1.0)
        return Term("barrier", values, "targets", self.coefficient, metrics)
