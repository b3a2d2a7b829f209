"""Contrastive preference optimization (CPO), arXiv 2401.08417.

    L = -log sigma(beta log pi(y_w|x) - beta log pi(y_l|x)) + sft * NLL(y_w)                  (eq. 5)

DPO with the reference taken as uniform, and a likelihood term on the preferred response in its place. NLL is the mean
over the preferred responses' tokens, as in the released code. "CPO" elsewhere also stands for constrained policy
optimization.
"""

from __future__ import annotations

from pydantic import Field

from rather.methods.base import Limit, Method, PairOptions, pairwise
from rather.objectives.links import Logistic
from rather.objectives.preference import Preference


class Options(PairOptions):
    sft: float = Field(1.0, ge=0, description="weight of the SFT term: mean token NLL of the preferred responses")


def build(options: Options) -> Preference:
    return pairwise(options, Logistic(), needs_reference=False)


METHOD = Method(
    name="cpo",
    title="Contrastive preference optimization, without a reference",
    equation="-log sigma(beta (s_w - s_l)) + sft NLL(y_w),  s = log pi",
    source="arXiv 2401.08417",
    options=Options,
    build=build,
    needs=frozenset({"pairs"}),
    aliases=("contrastive",),
    dpo_limit={"sft": 0.0},
    limits=(Limit({"sft": 0.0, "reduce": "mean"}, "simpo", {"gamma": 0.0, "beta": 0.1}),),
    exceptions={"margin_only": "the SFT term sees the winner's likelihood"},
)
