"""Label models: what is believed about the order of an edge.

A label model turns any link into the loss of an edge whose label may be wrong, soft or moving. It needs nothing of the
link but its value and its value with the labels exchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from rather.objectives.links import Link, Pair
from rather.objectives.parts import Seen
from rather.objectives.tables import KeyedTable, mean_by_key

LabelOrder = Literal["update_first", "use_first"]


class Hard(nn.Module):
    """The label is right."""

    def forward(self, link: Link, pair: Pair, probability: Tensor, key: Tensor) -> Tensor:
        """[N] losses of edges (of lists, when pooled).

        Args:
            probability: [N] the data's own, NaN where unknown.
            key: [N] stable keys, for what is remembered of an edge.
        """
        return link(pair)


class Smoothed(Hard):
    """(1 - eps) l(z) + eps l(-z): label smoothing, "conservative" DPO."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, link: Link, pair: Pair, probability: Tensor, key: Tensor) -> Tensor:
        return (1 - self.rate) * link(pair) + self.rate * link(pair.swap())


class FlipCorrected(Hard):
    """((1 - eps) l(z) - eps l(-z)) / (1 - 2 eps): unbiased under flips of rate eps (rDPO, arXiv 2403.00409).

    The loss may be negative; that is right and must not be clamped.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, link: Link, pair: Pair, probability: Tensor, key: Tensor) -> Tensor:
        kept, flipped = 1 - self.rate, self.rate
        return (kept * link(pair) - flipped * link(pair.swap())) / (kept - flipped)


class Soft(Hard):
    """p l(z) + (1 - p) l(-z) with the data's own probability p; 1 where the data has none."""

    def forward(self, link: Link, pair: Pair, probability: Tensor, key: Tensor) -> Tensor:
        p = torch.where(probability.isnan(), torch.ones_like(probability), probability).to(pair.win)
        return p * link(pair) + (1 - p) * link(pair.swap())


class Moving(Hard):
    """A label of each edge that drifts to the model's own prediction: l l(z) + (1 - l) l(-z), l detached.

    After every optimizer step the label of each edge in it moves, l <- (1 - gamma) l + gamma sigma(z), with z the margin
    of the forward pass, detached; an edge that is met twice in a step moves once, to the mean of its predictions. The
    labels are kept by the edge's stable key. Dynamic labels of POWER-DL (arXiv 2412.09544), over any link; sigma(z) as
    the prediction is Bradley-Terry's, whatever the link.

    Args:
        gamma: how far a label moves, 0 to 1.
        start: label of an edge that was not met before.
        order: ``update_first``: the loss takes the label as it will be after this step; ``use_first``: as it was.
    """

    def __init__(self, gamma: float, start: float = 1.0, order: LabelOrder = "update_first") -> None:
        super().__init__()
        self.gamma, self.order = gamma, order
        self.table = KeyedTable(start)

    def forward(self, link: Link, pair: Pair, probability: Tensor, key: Tensor) -> Tensor:
        label = self.label(key, torch.sigmoid(pair.margin.detach()))
        return label * link(pair) + (1 - label) * link(pair.swap())

    def label(self, key: Tensor, prediction: Tensor) -> Tensor:
        """[N] labels that the loss of this forward pass takes."""
        stored = self.table(key).to(prediction)
        return self._moved(stored, prediction) if self.order == "update_first" else stored

    def report(self, seen: Seen) -> Mapping[str, Tensor]:
        return {"label": self.label(seen.key, torch.sigmoid(seen.pair.margin))}

    def observe(self, seen: Seen) -> Mapping[str, Tensor]:
        return {"key": seen.key, "prediction": torch.sigmoid(seen.pair.margin)}

    def advance(self, observations: Mapping[str, Tensor]) -> None:
        key, prediction = mean_by_key(observations["key"], observations["prediction"].to(self.table.values))
        self.table.put(key, self._moved(self.table(key), prediction))

    def _moved(self, label: Tensor, prediction: Tensor) -> Tensor:
        return label + self.gamma * (prediction - label)
