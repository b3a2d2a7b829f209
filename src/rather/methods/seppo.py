"""Semi-policy preference optimization (SePPO, later SSPO), arXiv 2410.05255.

    A = m_w - r_w,   R = m_s - r_s     mean squared errors of policy minus reference, on the winner and on a sample s
    sign = 1 if A <= 0 else -1         (mode=sign; 0 in its place with mode=indicator)
    L = -log sigma(-beta/2 (A - sign R))

Winners alone are given; the other response is a sample of the reference, an earlier checkpoint. Where the reference
predicts the winner better than the policy, its sample is presumed to be good and both errors are pushed down; elsewhere
it is a loser as in Diffusion-DPO. The sign is detached, one for each pair from a single draw; a tie counts as +1 (best
reading: right after a checkpoint is taken, policy and reference are equal). mode=off is DPO on self-made pairs (SPIN);
mode=indicator drops the sample, which leaves SFT held by the reference.

The loss sees pairs whose loser is the sample; making them, and choosing the reference among the checkpoints, is the outer
loop's (``rather study seppo``). No training code is released: the formula is put together from accounts of the paper.
beta is that of ``diffusion_dpo``, with the factor 1/2.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rather.methods.base import Limit, Method, PairOptions, pairwise
from rather.objectives.links import Logistic
from rather.objectives.margins import AnchorFlipped
from rather.objectives.preference import Preference
from rather.objectives.scores import Reduction


class Options(PairOptions):
    beta: float = Field(2000.0, gt=0, description="scale on half the mean squared error")
    mode: Literal["sign", "indicator", "off"] = Field(
        "sign", description="a sample of a reference that is ahead on the winner: drawn in, left out, or pushed off"
    )
    reduce: Reduction = Field("mean", description="a response's score: sum or mean over its elements")


def build(options: Options) -> Preference:
    otherwise = {"sign": -1.0, "indicator": 0.0, "off": 1.0}[options.mode]
    return pairwise(options, Logistic(), matching=AnchorFlipped(otherwise))


METHOD = Method(
    name="seppo",
    title="Semi-policy preference optimization: the winner tells what a sample of the reference is worth",
    equation="-log sigma(beta (rho_w - sign rho_s)),  sign = 1 if rho_w >= 0 else -1",
    source="arXiv 2410.05255",
    options=Options,
    build=build,
    aliases=("sspo",),
    dpo_limit={"mode": "off", "reduce": "sum"},
    limits=(Limit({"mode": "off"}, "diffusion_dpo", {"beta": 2000.0}),),
    exceptions={"margin_only": "the level of the winner's log-ratio decides the sign"},
)
