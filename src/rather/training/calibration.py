"""Whether a reward model's probabilities can be believed: how often it is right when it says that it is sure.

p = sigma(margin) is the probability it gave to the order that the data has; it is right where p > 1/2, and as sure as
max(p, 1 - p).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from rather.training import ranks

BINS = 10
"""Of equal width between a confidence of 1/2 and one of 1."""


class Calibration:
    """Sums over held-out edges, joined over processes when asked for.

    Args:
        device: of the margins.
    """

    def __init__(self, device: torch.device) -> None:
        self.bins = torch.zeros(BINS, 3, dtype=torch.float64, device=device)
        self.loss = torch.zeros(2, dtype=torch.float64, device=device)

    def add(self, margins: Tensor, weight: float) -> None:
        """Margins [K] in log-odds; ``weight`` 0 leaves them out."""
        z = margins.detach().double()
        confidence = torch.sigmoid(z.abs())
        correct = (z > 0).double() + (z == 0).double() / 2
        index = ((2 * confidence - 1) * BINS).long().clamp(max=BINS - 1)
        rows = torch.stack([torch.ones_like(z), confidence, correct], 1)
        self.bins.index_add_(0, index, weight * rows)
        self.loss += weight * self.loss.new_tensor([softplus(-z).sum(), z.numel()])

    def result(self) -> dict[str, Any]:
        """``log_loss``: mean of -log p (nats); ``calibration_error``: mean over edges of |share right - confidence| of
        the edge's bin (expected calibration error); ``calibration``: the bins that hold edges, with number, mean
        confidence and share right. Empty without edges."""
        total, count = ranks.total(self.loss).tolist()
        if not count:
            return {}
        bins, error = [], 0.0
        for n, confidence, right in ranks.total(self.bins).tolist():
            if n:
                bins.append({"n": int(n), "confidence": confidence / n, "right": right / n})
                error += abs(right - confidence) / count
        return {"log_loss": total / count, "calibration_error": error, "calibration": {"bins": bins}}
