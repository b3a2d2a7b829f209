"""Truth tables weighted by probabilities, in log space.

A set of rows of a truth table over n propositions is an integer: bit k stands for row k, and in row k proposition i is
true where bit i of k is set.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

CERTAIN = -1e-7
"""The largest log-probability that is counted (our reading): at p = 1 the odds against would have no logarithm. A
response above it gets no gradient."""


def log_not(logp: Tensor) -> Tensor:
    """log(1 - p) of log p < 0, by the form that keeps its digits on either side of p = 1/2."""
    near = logp > -math.log(2.0)
    safe = torch.full_like(logp, -1.0)  # fed to the form that is not taken, so that its gradient is finite
    close = torch.log(-torch.expm1(torch.where(near, logp, safe)))
    far = torch.log1p(-torch.exp(torch.where(near, safe, logp)))
    return torch.where(near, close, far)


def rows_of(table: int, propositions: int) -> Tensor:
    """[M, n] truth values of the M rows in ``table``."""
    numbers = [row for row in range(2**propositions) if table >> row & 1]
    values = [[bool(row >> i & 1) for i in range(propositions)] for row in numbers]
    return torch.tensor(values, dtype=torch.bool).reshape(-1, propositions)


def log_count(logps: Tensor, rows: Tensor) -> Tensor:
    """Log of the weighted model count: the sum over rows of the product of p (true) and 1 - p (false).

    Args:
        logps: [..., n] log-probabilities of the propositions; at most ``CERTAIN`` is counted.
        rows: [M, n] truth values, on any device.

    Returns:
        [...]; -inf without rows.
    """
    logps, rows = logps.clamp(max=CERTAIN), rows.to(logps.device)
    weights = torch.where(rows, logps[..., None, :], log_not(logps)[..., None, :]).sum(-1)
    return weights.logsumexp(-1)
