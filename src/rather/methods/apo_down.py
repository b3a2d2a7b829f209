"""Anchored preference optimization, down (APO-down), arXiv 2408.06266.

    L = sigma(r_w) + 1 - sigma(r_w - r_l),   r = beta (log pi - log ref)                       (eq. 8)

Both likelihoods fall, the loser's further. For winners worse than what the model writes by itself, where DPO would
teach it to imitate them. At pi = ref the winner's gradient is exactly 0.
"""

from __future__ import annotations

from rather.methods.base import Method, PairOptions, pairwise
from rather.objectives.links import AnchoredDown
from rather.objectives.preference import Preference


def build(options: PairOptions) -> Preference:
    return pairwise(options, AnchoredDown())


METHOD = Method(
    name="apo_down",
    title="Anchored preference optimization: both down, loser further",
    equation="sigma(r_w) + 1 - sigma(r_w - r_l)",
    source="arXiv 2408.06266 eq. 8",
    options=PairOptions,
    build=build,
    exceptions={"margin_only": "the winner is anchored at reward 0"},
)
