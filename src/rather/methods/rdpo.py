"""Provably robust DPO (rDPO), arXiv 2403.00409.

    L = [ (1 - eps) l(z) - eps l(-z) ] / (1 - 2 eps),   l(z) = -log sigma(z),   z = beta h

With labels flipped at rate eps the expectation of L is the clean DPO loss. L may be negative. Equal to DPO plus a
constant push: L = l(z) - eps / (1 - 2 eps) z. ``labels.flip_rate`` gives the same correction to any other link.
"""

from __future__ import annotations

from pydantic import Field

from rather.methods.base import Limit, Method, PairOptions, pairwise
from rather.objectives.labels import FlipCorrected
from rather.objectives.links import Logistic
from rather.objectives.preference import Preference


class Options(PairOptions):
    flip_rate: float = Field(0.1, ge=0, lt=0.5, description="assumed rate of flipped labels")


def build(options: Options) -> Preference:
    return pairwise(options, Logistic(), labels=FlipCorrected(options.flip_rate))


METHOD = Method(
    name="rdpo",
    title="Provably robust DPO: unbiased under label flips",
    equation="[(1-eps) l(z) - eps l(-z)] / (1-2 eps),  l = -log sigma,  z = beta h",
    source="arXiv 2403.00409",
    options=Options,
    build=build,
    aliases=("robust",),
    dpo_limit={"flip_rate": 0.0},
    limits=(Limit({"flip_rate": 0.2}, "dpo", {"labels.flip_rate": 0.2}),),
)
