"""Softmax DPO over several negatives (S-DPO), arXiv 2406.09215.

    L = -log sigma(-log sum_j exp(beta (rho_j - rho_w))) = log(1 + sum_j exp(beta (rho_j - rho_w)))

One winner against all its losers at once: the gradient on loser j is its share of a softmax, so the negatives hardest
to tell apart get most of it. One negative is DPO. Averaged over lists. Not the self-distillation of the same acronym.
"""

from __future__ import annotations

from pydantic import Field

from rather.methods.base import Method, PairOptions, pairwise
from rather.objectives.links import Logistic
from rather.objectives.listwise import SoftestMargin
from rather.objectives.preference import Preference


class Options(PairOptions):
    beta: float = Field(1.0, gt=0, description="scale of the implicit reward")


def build(options: Options) -> Preference:
    return pairwise(options, Logistic(), pool=SoftestMargin())


METHOD = Method(
    name="sdpo",
    title="Softmax DPO over several negatives",
    equation="log(1 + sum_j exp(beta (rho_j - rho_w)))",
    source="arXiv 2406.09215",
    options=Options,
    build=build,
    needs=frozenset({"lists", "reference"}),
    aliases=("softmax_dpo", "s_dpo"),
    dpo_limit={},
)
