"""Simple preference optimization (SimPO), arXiv 2405.14734.

    L = -log sigma(beta mean log pi(y_w|x) - beta mean log pi(y_l|x) - gamma)                 (eq. 6)

The reward is the mean log-probability of a response's tokens, what decoding maximises, so no reference is needed;
gamma is the margin asked for. The paper tunes beta in 2 to 2.5 (10 for one model) and gamma / beta about 0.5. Nothing
holds the policy near its start: use small learning rates.
"""

from __future__ import annotations

from pydantic import Field

from rather.methods.base import Limit, Method, PairOptions, pairwise
from rather.objectives.links import Logistic
from rather.objectives.preference import Preference
from rather.objectives.scores import Reduction


class Options(PairOptions):
    beta: float = Field(2.0, gt=0, description="scale of the mean log-probability")
    gamma: float = Field(1.0, ge=0, description="margin asked for, in the unit of the scaled reward")
    reduce: Reduction = Field("mean", description="a response's score: sum or mean over its tokens")


def build(options: Options) -> Preference:
    return pairwise(options, Logistic(), offset=options.gamma, needs_reference=False)


METHOD = Method(
    name="simpo",
    title="Simple preference optimization, without a reference",
    equation="-log sigma(beta (s_w - s_l) - gamma),  s = mean log pi",
    source="arXiv 2405.14734 eq. 6",
    options=Options,
    build=build,
    needs=frozenset({"pairs"}),
    dpo_limit={"gamma": 0.0, "reduce": "sum"},
    limits=(Limit({"gamma": 0.0, "reduce": "sum"}, "cpo", {"sft": 0.0, "beta": 2.0}),),
)
