"""Efficient exact optimization on pairs (EXO), arXiv 2402.00856.

    q = sigma(z),   z = beta h
    L = q log(q / (1 - eps)) + (1 - q) log((1 - q) / eps)                                     (eq. 16, K = 2)

The reverse KL divergence from the policy's two-way distribution to the smoothed label; DPO minimises the forward one.
Mode seeking: bounded by -log eps, with a gradient that vanishes on hopelessly wrong pairs too. The margin settles at
log((1 - eps) / eps); eps must be positive.
"""

from __future__ import annotations

from pydantic import Field

from rather.methods.base import Method, PairOptions, pairwise
from rather.objectives.links import ReverseKL
from rather.objectives.preference import Preference


class Options(PairOptions):
    smoothing: float = Field(1e-3, gt=0, lt=0.5, description="probability eps that the label gives to the loser")


def build(options: Options) -> Preference:
    return pairwise(options, ReverseKL(options.smoothing))


METHOD = Method(
    name="exo_pair",
    title="Efficient exact optimization: reverse KL to the label",
    equation="q log(q/(1-eps)) + (1-q) log((1-q)/eps),  q = sigma(beta h)",
    source="arXiv 2402.00856 eq. 16",
    options=Options,
    build=build,
    aliases=("exo",),
)
