"""Anchored preference optimization, zero (APO-zero), arXiv 2408.06266.

    L = 1 - sigma(r_w) + sigma(r_l),   r = beta (log pi - log ref)                             (eq. 7)

DPO fixes only the difference of the rewards, so both likelihoods may fall; here each end has its own anchor at 0: the
winner's likelihood rises and the loser's falls. For winners better than what the model writes by itself. Bounded:
both gradients vanish far from 0 in either direction.
"""

from __future__ import annotations

from rather.methods.base import EndsOptions, Method, pairwise
from rather.objectives.links import AnchoredZero
from rather.objectives.preference import Preference


def build(options: EndsOptions) -> Preference:
    return pairwise(options, AnchoredZero())


METHOD = Method(
    name="apo_zero",
    title="Anchored preference optimization: winner up, loser down",
    equation="1 - sigma(r_w) + sigma(r_l)",
    source="arXiv 2408.06266 eq. 7",
    options=EndsOptions,
    build=build,
    exceptions={"margin_only": "each end is anchored at reward 0"},
)
