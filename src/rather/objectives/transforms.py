"""Transforms of response scores."""

from __future__ import annotations

import torch
from torch import Tensor

from rather.logic.counting import log_not


def log_odds(logp: Tensor) -> Tensor:
    """log(p / (1 - p)) of log p [R] <= 0 (ORPO, arXiv 2403.07691 eq. 4).

    A probability that rounds to 1 counts as 1 - eps of the dtype, with gradient 0.
    """
    logp = logp.clamp(max=-torch.finfo(logp.dtype).eps)
    return logp - log_not(logp)
