"""Length-normalised DPO, arXiv 2411.15124 (Tulu 3).

    h = [mean log pi(y_w|x) - mean log ref(y_w|x)] - [mean log pi(y_l|x) - mean log ref(y_l|x)]
    L = -log sigma(beta h)

DPO on means over response tokens instead of sums, so that a long response earns no larger reward than a short one of
the same quality. Means are smaller than sums by the length: a beta of DPO becomes beta times a typical length (Tulu
3: 5).
"""

from __future__ import annotations

from pydantic import Field

from rather.methods.base import Limit, Method, PairOptions, pairwise
from rather.objectives.links import Logistic
from rather.objectives.preference import Preference
from rather.objectives.scores import Reduction


class Options(PairOptions):
    beta: float = Field(5.0, gt=0, description="scale of the implicit reward, per token")
    reduce: Reduction = Field("mean", description="a response's score: sum or mean over its tokens")


def build(options: Options) -> Preference:
    return pairwise(options, Logistic())


METHOD = Method(
    name="dpo_norm",
    title="Length-normalised DPO",
    equation="-log sigma(beta h),  h from means over tokens",
    source="arXiv 2411.15124",
    options=Options,
    build=build,
    aliases=("sigmoid_norm", "ln_dpo"),
    dpo_limit={"reduce": "sum"},
    limits=(Limit({"beta": 5.0}, "dpo", {"reduce": "mean", "beta": 5.0}),),
)
