"""Transforms of response scores."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def log_odds(logp: Tensor) -> Tensor:
    """log(p / (1 - p)) of log p [R] <= 0 (ORPO, arXiv 2403.07691 eq. 4).

    A probability that rounds to 1 counts as 1 - eps of the dtype, with gradient 0.
    """
    logp = logp.clamp(max=-torch.finfo(logp.dtype).eps)
    # log(1 - exp(x)) by the form that keeps its digits on either side of log(1/2); the other one is fed a safe value.
    near = logp > -math.log(2.0)
    close = torch.log(-torch.expm1(torch.where(near, logp, torch.full_like(logp, -1.0))))
    far = torch.log1p(-torch.exp(torch.where(near, torch.full_like(logp, -1.0), logp)))
    return logp - torch.where(near, close, far)
