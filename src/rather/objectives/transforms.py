"""Transforms of response scores."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rather.logic.counting import log_not


def log_odds(logp: Tensor) -> Tensor:
    """log(p / (1 - p)) of log p [R] <= 0 (ORPO, arXiv 2403.07691 eq. 4).

    A probability that rounds to 1 counts as 1 - eps of the dtype, with gradient 0.
    """
    logp = logp.clamp(max=-torch.finfo(logp.dtype).eps)
    return logp - log_not(logp)


def bernoulli(u: Tensor) -> Tensor:
    """u / (exp(u) - 1), with 1 at u = 0: convex and falling, from about -u for negative u to u exp(-u) for large u.

    Nothing overflows and no digits are lost near 0, in value or gradient. Slope -1/2 and curvature 1/6 at 0.
    """
    near = u.abs() < 1e-2
    # Each branch sees arguments of its own alone: 0 / 0 in the other one, or an overflow, would spoil the gradient.
    small = torch.where(near, u, torch.zeros_like(u))
    series = 1 - small / 2 + small**2 / 12 - small**4 / 720
    # phi(-u) = phi(u) + u, so that no large exponential is needed.
    size = torch.where(near, torch.ones_like(u), u).abs()
    quotient = -size * torch.exp(-size) / torch.expm1(-size) + torch.relu(-u)
    return torch.where(near, series, quotient)


class Bounded(nn.Module):
    """phi(2 scale (-s))^power of response scores s [R], phi = ``bernoulli``: in (0, 1) for scores below 0, rising with them.

    A denoising score is minus half an error m, so this is phi(scale m)^power: what MaPO (arXiv 2406.06424) compares in the
    place of likelihoods. A large error counts as much as a slightly larger one.
    """

    def __init__(self, scale: float = 1.0, power: float = 1.0) -> None:
        super().__init__()
        self.scale, self.power = scale, power

    def forward(self, scores: Tensor) -> Tensor:
        return bernoulli(-2 * self.scale * scores) ** self.power
