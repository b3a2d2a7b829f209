"""Truncated fine-tuning on the model's own roll-outs (Self-NPO), arXiv 2505.11777.

    L = mean over elements of (f - x)^2                     loss=l2, the paper's form
    L = mean over elements of sqrt((f - x)^2 + c^2) - c     loss=huber, as released
    x: the clean estimate of a teacher at x_t, where its own sampler was stopped;  f: the student's, at x_s, s > t

Makes a negative model without data: a model trained on what it makes itself gets a little worse, and guidance away from
it (``rather.policies.guidance``) makes samples better. With an exact teacher that sees the prompt there is nothing to
lose, and nothing to gain. The loss is maximum likelihood; all that is particular is in the draw
(``rather.policies.rollout.SelfRollouts``), which is why the usual policies are refused. Whatever responses the data has
are read for their number and shape (or, as released, as the start of a roll-out).
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rather.methods.base import Method, MethodOptions
from rather.objectives.element_values import PseudoHuber
from rather.objectives.supervised import Supervised


class Options(MethodOptions):
    loss: Literal["l2", "huber"] = Field("l2", description="squared error, or pseudo-Huber as released")
    c: float = Field(0.001, gt=0, description="error at which the pseudo-Huber loss turns from square to linear")


def build(options: Options) -> Supervised:
    # A score is minus half the squared error.
    return Supervised(coefficient=2.0) if options.loss == "l2" else Supervised(element_values=PseudoHuber(options.c))


METHOD = Method(
    name="self_npo",
    title="A negative model by fine-tuning on one's own truncated roll-outs",
    equation="mean (f(x_s) - x)^2,  x the teacher's clean estimate at x_t, t < s",
    source="arXiv 2505.11777",
    options=Options,
    build=build,
    needs=frozenset({"targets", "rollouts"}),
    aliases=("truncated_fine_tuning",),
    exceptions={
        "margin_only": "the error on the target is all there is",
        "weight": "the mean is over elements of targets, which have no pair weight",
    },
)
