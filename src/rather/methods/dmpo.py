"""DPO on the mean of several negatives (DMPO), arXiv 2406.14868.

    L = -log sigma(beta rho_w - (1/K) sum_j beta rho_j)

Every negative gets the same gradient, beta sigma(-z) / K, and all of them lose it together once the mean margin is
large, however close a single one still is. One negative is DPO. Averaged over lists. The code released with the paper
trains another loss, reference-free on each negative apart with an SFT term: that is ``cpo``.
"""

from __future__ import annotations

from pydantic import Field

from rather.methods.base import Method, PairOptions, pairwise
from rather.objectives.links import Logistic
from rather.objectives.listwise import MeanMargin
from rather.objectives.preference import Preference


class Options(PairOptions):
    beta: float = Field(1.0, gt=0, description="scale of the implicit reward")


def build(options: Options) -> Preference:
    return pairwise(options, Logistic(), pool=MeanMargin())


METHOD = Method(
    name="dmpo",
    title="DPO on the mean of several negatives",
    equation="-log sigma(beta (rho_w - mean_j rho_j))",
    source="arXiv 2406.14868",
    options=Options,
    build=build,
    needs=frozenset({"lists", "reference"}),
    aliases=("mean_dpo",),
    dpo_limit={},
)
