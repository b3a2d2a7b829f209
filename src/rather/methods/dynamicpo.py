"""Boundary negatives with their own beta (DynamicPO), arXiv 2605.00327, as released.

    B: losers at or above their winner; if there are none, the highest of three clusters of the losers' scores
    beta_j = beta (1 + 1/2 tanh((d1 - d2 - gamma) / (|d1| + |d2|))),   d1 = l_w - l_j,   d2 = l_j - mean of the others
    dmpo     -log sigma(mean_{j in B} beta_j (rho_w - rho_j))
    sdpo     -log sigma(-log sum_{j in B} exp(beta_j (rho_j - rho_w)))
    mppo     -log sigma(sum_{j in B} beta_j (p_w - p_j)),   p = exp(l), no reference

With many random negatives the mean of DMPO is soon large, and with it the gradient on the few negatives that are still
close is lost. Here only those at the boundary take part. Selection and beta look at the policy's own log-probabilities
l, without gradient, in every step anew; the loss is made of log-ratios rho. Beta is lowered for violations and near
misses, not raised. Averaged over lists. Clusters are the exact one-dimensional k-means.

gamma is in nats. The released code computes d1 and d2 of summed log-probabilities, which favours short responses where
lengths differ.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field
from torch import nn

from rather.methods.base import Method, PairOptions, pairwise
from rather.objectives.links import Logistic
from rather.objectives.listwise import MeanMargin, SoftestMargin, SumMargin
from rather.objectives.preference import Preference
from rather.objectives.selection import BoundaryNegatives


class Options(PairOptions):
    beta: float = Field(1.0, gt=0, description="scale of the implicit reward")
    base: Literal["dmpo", "sdpo", "mppo"] = Field("dmpo", description="the loss of the selected negatives")
    gamma: float = Field(
        6.0, ge=0, description="lead in nats at which a negative's beta is neither raised nor lowered"
    )
    dynamic_beta: bool = Field(True, description="give each selected negative its own beta")


def build(options: Options) -> Preference:
    pools: dict[str, type[nn.Module]] = {"dmpo": MeanMargin, "sdpo": SoftestMargin, "mppo": SumMargin}
    probabilities: dict[str, Any] = {"needs_reference": False, "transform": torch.exp}
    return pairwise(
        options,
        Logistic(),
        selection=BoundaryNegatives(options.gamma, options.dynamic_beta),
        pool=pools[options.base](),
        **(probabilities if options.base == "mppo" else {}),
    )


METHOD = Method(
    name="dynamicpo",
    title="Boundary negatives with their own beta",
    equation="-log sigma(mean_{j in B} beta_j (rho_w - rho_j))",
    source="arXiv 2605.00327",
    options=Options,
    build=build,
    needs=frozenset({"lists", "reference", "likelihood"}),
    aliases=("boundary_negatives",),
    dpo_limit={"dynamic_beta": False},
    exceptions={
        "gradient": "beta follows the scores without a gradient, which finite differences see",
        "shift": "the selection looks at the policy's own log-probabilities",
    },
)
