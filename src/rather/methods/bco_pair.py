"""Binary classifier optimization (BCO), arXiv 2404.04656.

    L = -log sigma(r_w - delta) - log sigma(-(r_l - delta)),   r = beta (log pi - log ref)

A classifier of good against bad responses whose logit is the reward; an upper bound of DPO's loss that also takes
unpaired marks. delta is the mean reward, over all responses of the optimizer steps so far, saved with the run; in the
first step that of the micro-batch. It is detached. ``baseline=none`` leaves it out. Edges: mean over pairs of the sum
of both ends. Marks: mean over marked responses.
"""

from __future__ import annotations

from pydantic import Field

from rather.methods.base import Method, ScaleOptions
from rather.objectives.baselines import Baseline, BaselineMode
from rather.objectives.links import Logistic
from rather.objectives.pointwise import Pointwise


class Options(ScaleOptions):
    baseline: BaselineMode = Field(
        "running", description="mean reward over: all steps so far, the previous one, the batch"
    )


def build(options: Options) -> Pointwise:
    return Pointwise(beta=options.beta, reduce=options.reduce, curve=Logistic(), baseline=Baseline(options.baseline))


METHOD = Method(
    name="bco_pair",
    title="Binary classifier optimization",
    equation="-log sigma(r_w - delta) - log sigma(delta - r_l),  delta: mean reward",
    source="arXiv 2404.04656",
    options=Options,
    build=build,
    needs=frozenset({"marks", "reference"}),
    aliases=("bco",),
    exceptions={"margin_only": "rewards are measured from a baseline"},
)
