"""Held-out numbers of a denoising policy by timestep: where along the noise it has learned, and where it has not.

err = mean squared error of a prediction, over a response's elements; a score is minus half of it. Timesteps are those of
the evaluation's own draw, so nothing is computed that is not computed anyway, and before and after see the same ones.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rather.objectives.outcome import Outcome
from rather.objectives.scores import Layout, Scores, segment_sum
from rather.stats import wilson
from rather.training import metrics, ranks

BINS = 10
"""Of equal width, from the first timestep to the last."""

ERRORS = ("error/chosen", "error/rejected", "reference/chosen", "reference/rejected")


class ByTimestep:
    """Sums over held-out responses and edges, joined over processes when asked for.

    Args:
        steps: how many timesteps there are.
    """

    def __init__(self, steps: int, device: torch.device) -> None:
        self.steps = steps
        self.errors = torch.zeros(BINS, len(ERRORS), 2, dtype=torch.float64, device=device)
        self.edges = torch.zeros(BINS, 3, dtype=torch.float64, device=device)  # number, margins, in the right order

    def add(
        self,
        outcome: Outcome,
        scores: Scores,
        reference: Scores | None,
        layout: Layout,
        timestep: Tensor,
        weight: float,
    ) -> None:
        """A micro-batch whose responses were scored at ``timestep`` [R]; ``weight`` 0 leaves it out."""
        index = timestep * BINS // self.steps
        ends = metrics.ends(layout)
        for first, found in ((0, scores), (2, reference)):
            if found is None:
                continue
            summed = segment_sum(found.elements.detach().double(), found.response, layout.responses)
            error = -2 * summed / layout.lengths.clamp(min=1)
            for column, end in enumerate(ends, first):
                rows = torch.stack([error[end], torch.ones_like(error[end])], 1)
                self.errors[:, column].index_add_(0, index[end], weight * rows)
        if layout.edges:
            margins = outcome.margins.detach().double()
            rows = torch.stack([torch.ones_like(margins), margins, metrics.right(margins)], 1)
            self.edges.index_add_(0, index[layout.winner], weight * rows)

    def result(self) -> dict[str, Any]:
        """``steps``, and ``bins`` that hold anything, each with its timesteps ``from`` and ``to`` (the latter excluded),
        mean errors of chosen and rejected responses by policy and reference (as ``metrics.ends`` counts them), and over
        its ``n`` edges the ``accuracy`` with a 95% Wilson interval and the mean ``margin``, both of implicit rewards."""
        errors, edges = ranks.total(self.errors).tolist(), ranks.total(self.edges).tolist()
        bins = []
        for number, (columns, (n, margin, right)) in enumerate(zip(errors, edges, strict=True)):
            found: dict[str, Any] = {
                name: total / count for name, (total, count) in zip(ERRORS, columns, strict=True) if count
            }
            if n:
                interval = list(wilson(right, n))
                found |= {"n": int(n), "margin": margin / n, "accuracy": right / n, "accuracy/interval": interval}
            if found:
                # The first timestep of a bin is the least t with t * BINS // steps = number.
                first, last = (-(-at * self.steps // BINS) for at in (number, number + 1))
                bins.append({"from": first, "to": last, **found})
        return {"steps": self.steps, "bins": bins} if bins else {}
