"""The draw of a training batch, made with the network that the method's noising asks for.

Fresh noise needs no network. An inversion asks the policy as it is at this step, or the reference, in eval mode and
without gradient; it runs inside the learner's forward pass, where wrappers have the weights at hand.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from rather.policies.base import Batch, Draw, Policy
from rather.training.references import Reference, scoring_mode


def make_draw(policy: Policy, learner: nn.Module, reference: Reference, noising: Any, batch: Batch, seed: int) -> Draw:
    """The batch's randomness under ``noising`` (``Objective.noising``), with what the policy does in training only.

    Args:
        learner: the prepared ``Learner``, whose objective asks for ``noising``.
    """
    told: Any = policy
    draw = _drawn(told, learner, reference, noising, batch, seed)
    return told.in_training(draw, batch, seed) if hasattr(told, "in_training") else draw


def _drawn(policy: Any, learner: nn.Module, reference: Reference, noising: Any, batch: Batch, seed: int) -> Draw:
    if noising is None:
        return policy.draw(batch, seed)
    if noising.inverter == "reference":
        return reference.draw(batch, seed)
    if noising.inverter == "policy":
        with torch.no_grad(), scoring_mode(learner):
            return learner(batch, None, seed=seed)
    return policy.draw(batch, seed, noising)
