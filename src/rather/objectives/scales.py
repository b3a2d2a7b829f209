"""Scales: factors on the beta of each edge, without gradient.

A factor on beta is not a weight on the loss: it makes the margin that satisfies an edge smaller or larger, and a negative
one turns the edge round.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from rather.objectives.parts import Seen
from rather.objectives.scores import Layout


class Confidence(nn.Module):
    """gain (2 p - 1), p the probability that an edge's order is right: 0 for a coin's toss, -gain for a wrong order.

    ``gain (2a - g) / g`` of arXiv 2506.02698 (a / g = p) and f of arXiv 2605.09433 (p = sigma(reward gap)) are this. p is
    the data's probability; where it has none, sigma of its margin; where it has neither, 1.
    """

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        self.gain = gain

    def forward(self, layout: Layout) -> Tensor:
        """[K] factors, at most ``gain`` in size."""
        # tanh(d / 2) is 2 sigma(d) - 1 without the loss of digits for small gaps.
        of_margin = torch.where(layout.margin.isnan(), 1.0, torch.tanh(layout.margin / 2))
        return self.gain * torch.where(layout.probability.isnan(), of_margin, 2 * layout.probability - 1)

    def report(self, seen: Seen) -> Mapping[str, Tensor]:
        return {"factor": self(seen.layout)}


class CosineDecay(nn.Module):
    """1 until a share ``start`` of the run's optimizer steps, then half a cosine down to ``floor`` at ``end``.

    arXiv 2605.09433: floor 1/2; the closed form and both ends are the best reading. Until it is told the number of steps
    it stays at 1.

    Args:
        start, end: shares of the run, 0 <= start < end.
    """

    done: Tensor

    def __init__(self, start: float = 0.5, end: float = 0.9, floor: float = 0.5) -> None:
        super().__init__()
        self.start, self.end, self.floor = start, end, floor
        self.steps: int | None = None
        self.register_buffer("done", torch.zeros((), dtype=torch.long))

    def plan(self, steps: int) -> None:
        self.steps = steps

    def factor(self, done: int) -> float:
        """After ``done`` optimizer steps."""
        if self.steps is None:
            return 1.0
        first, last = self.start * self.steps, self.end * self.steps
        passed = min(max((done - first) / (last - first), 0.0), 1.0)
        return (1 + self.floor) / 2 + (1 - self.floor) / 2 * math.cos(math.pi * passed)

    def forward(self, layout: Layout) -> Tensor:
        """[K], all equal."""
        return layout.margin.new_full(layout.margin.shape, self.factor(int(self.done)))

    def observe(self, seen: Seen) -> Mapping[str, Tensor]:
        return {}

    def advance(self, observations: Mapping[str, Tensor]) -> None:
        self.done += 1
