"""Noise-contrastive alignment on pairs (NCA), arXiv 2402.05369.

    L = -log sigma(r_w) - 1/2 log sigma(-r_w) - 1/2 log sigma(-r_l),   r = beta (log pi - log ref)

Each reward is an absolute log density ratio to be estimated, not only a difference, which keeps the winner's
likelihood from falling. With r_l = r_w it is smallest at 0; the winner's push stops at r_w = log 2, the loser's
never.
"""

from __future__ import annotations

from pydantic import Field

from rather.methods.base import EndsOptions, Method, pairwise
from rather.objectives.links import NoiseContrastive
from rather.objectives.preference import Preference


class Options(EndsOptions):
    beta: float = Field(0.01, gt=0, description="scale of the implicit reward")


def build(options: Options) -> Preference:
    return pairwise(options, NoiseContrastive())


METHOD = Method(
    name="nca_pair",
    title="Noise-contrastive alignment",
    equation="-log sigma(r_w) - 1/2 log sigma(-r_w) - 1/2 log sigma(-r_l)",
    source="arXiv 2402.05369",
    options=Options,
    build=build,
    aliases=("nca",),
    exceptions={"margin_only": "the rewards' level is estimated too"},
)
