"""Truncated fine-tuning on the model's own roll-outs (Self-NPO), arXiv 2505.11777.

    L = mean over elements of (f - x)^2                     loss=l2, the paper's form
    L = mean over elements of sqrt((f - x)^2 + c^2) - c     loss=huber, as released
    x: the clean estimate of a teacher at x_t, where its own sampler was stopped;  f: the student's, at x_s, s > t

Makes a negative model without data: a model trained on what it makes itself gets a little worse, and guidance away from
it (``rather.policies.guidance``, ``rather sample --negative``) makes samples better. With an exact teacher that sees the
prompt there is nothing to lose, and nothing to gain. The loss is maximum likelihood; all that is particular is in the
draw (``rather.policies.rollout.SelfRollouts``), which the method puts around any denoising policy. The teacher is a
frozen copy of the model as it was before training; one that follows the student, as released, is there in Python only.
Prompts alone are data enough; responses are read for their number and shape (or, as released, as the start of a
roll-out).
"""

from __future__ import annotations

import copy
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from rather.methods.base import Method, MethodOptions
from rather.objectives.element_values import PseudoHuber
from rather.objectives.supervised import Supervised
from rather.policies.base import Policy
from rather.policies.denoising import DenoisingPolicy
from rather.policies.rollout import SelfRollouts


class RolloutOptions(BaseModel):
    """How the teacher makes targets, see ``SelfRollouts``; the paper's form."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    start: Literal["noise", "data"] = Field("noise", description="roll-outs from pure noise, or from noised responses")
    excess: float = Field(
        0.0, description="the teacher predicts e + excess (e - e without a prompt): -1 has no prompt, as released"
    )
    steps: int = Field(5, ge=1, description="steps of the sampler that is stopped; from data, steps that are taken")
    points: int = Field(25, ge=1, description="grid of timesteps that roll-outs from data start on")


class Options(MethodOptions):
    loss: Literal["l2", "huber"] = Field("l2", description="squared error, or pseudo-Huber as released")
    c: float = Field(0.001, gt=0, description="error at which the pseudo-Huber loss turns from square to linear")
    rollout: RolloutOptions = Field(RolloutOptions.model_validate({}), description="how the teacher makes targets")


def build(options: Options) -> Supervised:
    # A score is minus half the squared error.
    return Supervised(coefficient=2.0) if options.loss == "l2" else Supervised(element_values=PseudoHuber(options.c))


def wrap(options: Options, policy: Policy) -> Policy:
    """A denoising policy on roll-outs of what its network is now."""
    if not isinstance(policy, DenoisingPolicy):
        return policy
    teacher = copy.deepcopy(policy.network).requires_grad_(False).eval()
    return SelfRollouts(policy, teacher, **options.rollout.model_dump())


METHOD = Method(
    name="self_npo",
    title="A negative model by fine-tuning on one's own truncated roll-outs",
    equation="mean (f(x_s) - x)^2,  x the teacher's clean estimate at x_t, t < s",
    source="arXiv 2505.11777",
    options=Options,
    build=build,
    wrap=wrap,
    negative=True,
    needs=frozenset({"rollouts"}),
    aliases=("truncated_fine_tuning",),
    exceptions={
        "margin_only": "the error on the target is all there is",
        "weight": "the mean is over elements of targets, which have no pair weight",
    },
)
