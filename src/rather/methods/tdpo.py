"""Token-level direct preference optimization (TDPO), arXiv 2404.11999.

    u     = sum_t rho_t(y_w) - sum_t rho_t(y_l),           rho_t   = log pi(y_t|.) - log ref(y_t|.)
    delta = sum_t kappa_t(y_l) - sum_t kappa_t(y_w),       kappa_t = KL(ref(.|prefix) || pi(.|prefix)), whole vocabulary
    L     = -log sigma( beta (u - alpha delta) )

TDPO1 is alpha = 1 with gradient through both sums. TDPO2 (eq. 17) is ``still_chosen`` with alpha 0.5: the divergence at
the preferred response is a constant there. -delta rewards a divergence of the preferred response and punishes one of
the other; without ``still_chosen`` the former is pushed up. alpha = 0 is DPO.
"""

from __future__ import annotations

from pydantic import Field

from rather.methods.base import Method, PairOptions, pairwise
from rather.objectives.links import Logistic
from rather.objectives.preference import Preference
from rather.objectives.token_kl import TokenReward


class Options(PairOptions):
    alpha: float = Field(1.0, ge=0, description="factor on the divergence; 0 is DPO")
    still_chosen: bool = Field(False, description="no gradient through the preferred response's divergence (TDPO2)")


def build(options: Options) -> Preference:
    values = TokenReward(alpha=options.alpha, still_chosen=options.still_chosen)
    return pairwise(options, Logistic(), element_values=values)


METHOD = Method(
    name="tdpo",
    title="Token-level DPO: divergence of each token's distribution inside the margin",
    equation="-log sigma(beta (h - alpha delta)),  delta = KL(ref||pi) summed over y_l minus over y_w",
    source="arXiv 2404.11999",
    options=Options,
    build=build,
    needs=frozenset({"pairs", "reference", "likelihood", "tokens"}),
    aliases=("tdpo1",),
    dpo_limit={"alpha": 0.0},
)
