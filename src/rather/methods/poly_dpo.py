"""Polynomial DPO (Poly-DPO), arXiv 2604.24953.

    p = sigma(z),   z = beta h
    L = -log p + alpha (1 - p)

The first term of -log p = sum_j (1 - p)^j / j is reweighted. Gradient on z: -(1 - p)(1 + alpha p). alpha > 0
multiplies the gradient of undecided pairs and raises the fitted confidence above the labels' frequency; -1 <= alpha <
0 tempers it; alpha < -1 pulls margins back beyond z = -log(-alpha - 1). alpha = 0 is DPO. Losses of different alpha
cannot be compared. The paper works on denoising scores: there ``reduce=mean`` and beta of ``diffusion_dpo``.
"""

from __future__ import annotations

from pydantic import Field

from rather.methods.base import Method, PairOptions, pairwise
from rather.objectives.links import Polynomial
from rather.objectives.preference import Preference


class Options(PairOptions):
    alpha: float = Field(8.0, description="weight of 1 - p; 8 for conflicting labels, negative for trivial pairs")


def build(options: Options) -> Preference:
    return pairwise(options, Polynomial(options.alpha))


METHOD = Method(
    name="poly_dpo",
    title="DPO with a reweighted first polynomial term",
    equation="-log p + alpha (1 - p),  p = sigma(beta h)",
    source="arXiv 2604.24953",
    options=Options,
    build=build,
    aliases=("poly",),
    dpo_limit={"alpha": 0.0},
)
