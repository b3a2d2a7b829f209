"""A baseline of the implicit reward, against which single responses are judged."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

BaselineMode = Literal["running", "previous", "batch", "none"]


class Baseline(nn.Module):
    """The mean reward of responses, detached.

    Args:
        mode: ``running``: mean over all responses of the optimizer steps so far; ``previous``: over those of the last
            step; ``batch``: over the micro-batch at hand; ``none``: 0. The first two take the micro-batch's own mean
            until the first step is done.
        floor: lower bound, as for an estimate of a KL divergence, which cannot be negative.
    """

    mean: Tensor
    count: Tensor

    def __init__(self, mode: BaselineMode, floor: float | None = None) -> None:
        super().__init__()
        self.mode, self.floor = mode, floor
        self.couples_batch = mode == "batch"
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("count", torch.zeros(()))

    def forward(self, rewards: Tensor) -> Tensor:
        """Rewards [N] of the judged responses of a micro-batch to the baseline, a scalar without gradient."""
        if self.mode == "none" or rewards.numel() == 0:
            return rewards.new_zeros(())
        own = rewards.detach().mean()
        # Chosen on the device: asking for the count here would wait for it in every forward pass.
        value = own if self.mode == "batch" else torch.where(self.count > 0, self.mean.to(own), own)
        return value if self.floor is None else value.clamp(min=self.floor)

    def advance(self, rewards: Tensor) -> None:
        """Take in the rewards [N] of a whole optimizer step, over all ranks."""
        if self.mode in ("none", "batch") or rewards.numel() == 0:
            return
        mean, number = rewards.detach().to(self.mean).mean(), float(rewards.numel())
        if self.mode == "previous":
            self.mean.copy_(mean)
            self.count.fill_(number)
        else:
            self.count.add_(number)
            self.mean.add_((mean - self.mean) * number / self.count)
