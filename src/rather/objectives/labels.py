"""Label models: what is believed about the order of an edge.

A label model turns any link into the loss of an edge whose label may be wrong, soft or moving. It needs nothing of the
link but its value and its value with the labels exchanged.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rather.objectives.links import Link, Pair


class Hard(nn.Module):
    """The label is right."""

    def forward(self, link: Link, pair: Pair, probability: Tensor) -> Tensor:
        """[K] losses; ``probability`` [K] is the data's own (NaN where unknown)."""
        return link(pair)


class Smoothed(Hard):
    """(1 - eps) l(z) + eps l(-z): label smoothing, "conservative" DPO."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, link: Link, pair: Pair, probability: Tensor) -> Tensor:
        return (1 - self.rate) * link(pair) + self.rate * link(pair.swap())


class FlipCorrected(Hard):
    """((1 - eps) l(z) - eps l(-z)) / (1 - 2 eps): unbiased under flips of rate eps (rDPO, arXiv 2403.00409).

    The loss may be negative; that is right and must not be clamped.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, link: Link, pair: Pair, probability: Tensor) -> Tensor:
        kept, flipped = 1 - self.rate, self.rate
        return (kept * link(pair) - flipped * link(pair.swap())) / (kept - flipped)


class Soft(Hard):
    """p l(z) + (1 - p) l(-z) with the data's own probability p; 1 where the data has none."""

    def forward(self, link: Link, pair: Pair, probability: Tensor) -> Tensor:
        p = torch.where(probability.isnan(), torch.ones_like(probability), probability).to(pair.win)
        return p * link(pair) + (1 - p) * link(pair.swap())
