"""What scoring costs: the positions that are computed and needed, and the floating-point operations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from rather.policies.base import Batch, Encoded


@dataclass(frozen=True)
class Work:
    """The work of scoring a batch.

    Attributes:
        computed: positions that a forward pass computes, padding and repeated prompts included.
        needed: positions without them: each prompt once and each response once.
        forward: operations of a forward pass over the needed positions; 0 where the policy cannot tell.
        backward: operations of the backward pass after it.
        dtype: what products are computed in, where the policy can tell.
    """

    computed: int
    needed: int
    forward: float = 0.0
    backward: float = 0.0
    dtype: torch.dtype | None = None

    def __add__(self, other: Work) -> Work:
        return Work(
            self.computed + other.computed,
            self.needed + other.needed,
            self.forward + other.forward,
            self.backward + other.backward,
            self.dtype or other.dtype,
        )


def work_of(policy: Any, encoded: Sequence[Encoded], batch: Batch) -> Work:
    """The policy's own account (``policy.work(encoded, batch)``), else the cost of the comparisons and no more."""
    tell = getattr(policy, "work", None)
    if tell is not None:
        return tell(encoded, batch)
    cost = sum(item.cost for item in encoded)
    return Work(cost, cost)
