"""Weights of elements inside a response's score."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rather.objectives.scores import Layout, Scores, segment_sum


class CarriedWeights(nn.Module):
    """The weights that tokens carry from the data (``rather.objectives.token_weights``), with mean 1 over a response.

    Tokens that carry none have weight 1. In a mean over a response only the ratios of weights count.
    """

    wants = frozenset({"weight"})

    def forward(self, policy: Scores, reference: Scores | None, layout: Layout) -> Tensor:
        """[E], without gradient."""
        weight = policy.extras.get("weight")
        weight = torch.ones_like(policy.elements) if weight is None else weight.to(policy.elements)
        return mean_one(weight.detach(), policy.response, layout)


def mean_one(weights: Tensor, response: Tensor, layout: Layout) -> Tensor:
    """[E] weights divided by their mean over each response's elements (floored at 1e-6 of their sum)."""
    total = segment_sum(weights, response, layout.responses).clamp(min=1e-6)
    return weights * (layout.lengths.to(total) / total)[response]
