"""How a reference orders the pairs it is to be trained on: the audit of arXiv 2605.20834, for every DPO-like run.

Margins are d = s(y_w) - s(y_l), of log-probabilities, as the run scores them (sums, or means over tokens). DPO is RLHF only
where the RLHF optimum prefers the chosen response; it has the margin d_ref + gap / beta, with ``gap`` the true reward
difference. Where the reference is worse than that, DPO can end in the set U, d_ref < d < 0: its loss is below its start
and the rejected response is still the likelier one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ReferenceOrder:
    """Attributes:
    frac_in_U: share of pairs with reference margin < policy margin < 0.
    frac_ref_below_gamma: share of pairs whose reference margin is below ``gamma``.
    violation_rate: share of pairs whose RLHF optimum prefers the rejected response; ``None`` without reward gaps.
    mean, quartiles: of the reference margins.
    """

    frac_in_U: float
    frac_ref_below_gamma: float
    violation_rate: float | None
    mean: float
    quartiles: tuple[float, float, float]


def reference_order(
    policy: Tensor,
    reference: Tensor,
    *,
    gamma: float = 0.0,
    reward_gap: Tensor | None = None,
    beta: float = 0.1,
) -> ReferenceOrder:
    """Audit margins [K > 0] of a policy and its reference.

    Args:
        gamma: the margin that a run asks for; 0 counts the pairs that the reference orders wrongly.
        reward_gap: [K] reward of the chosen response minus that of the rejected one.
        beta: scale of the implicit reward; only the violation rate depends on it.
    """
    policy, reference = policy.detach().double(), reference.detach().double()
    low, middle, high = torch.quantile(reference, reference.new_tensor([0.25, 0.5, 0.75])).tolist()
    violated = None if reward_gap is None else _share(reference <= -reward_gap.detach().double() / beta)
    return ReferenceOrder(
        frac_in_U=_share((reference < policy) & (policy < 0)),
        frac_ref_below_gamma=_share(reference < gamma),
        violation_rate=violated,
        mean=float(reference.mean()),
        quartiles=(low, middle, high),
    )


def _share(mask: Tensor) -> float:
    return float(mask.double().mean())


def critical_gamma(reward_gap: float, reference_margin: float, beta: float) -> float:
    """The least weight of E[d] in the RLHF objective with which no stationary policy prefers the rejected response.

    For two responses whose probabilities sum to 1; derived exactly, our reading. The objective itself has no maximum for
    a positive weight: what it keeps is a local one.
    """
    return max(0.0, -(reward_gap + beta * reference_margin) / 4)


def stationary_margin(reward_gap: float, reference_margin: float, beta: float, gamma: float) -> float | None:
    """The lower stationary margin d <= 0 of E[r] - beta KL + gamma E[d] for two responses; ``None`` without one.

    The root of gap - beta (d - d_ref) + gamma / (p (1 - p)), p = sigma(d), which falls with d up to 0.
    """

    def slope(d: float) -> float:
        return reward_gap - beta * (d - reference_margin) + gamma * (2 + 2 * math.cosh(d))

    if slope(0.0) > 0:
        return None
    low, high = -1.0, 0.0
    while slope(low) < 0:
        low *= 2
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    return (low + high) / 2
