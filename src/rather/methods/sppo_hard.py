"""Self-play preference optimization with hard labels (SPPO), arXiv 2405.00675.

    L = (rho_w - 1/(2 beta))^2 + (rho_l + 1/(2 beta))^2,   rho = log pi - log ref

The paper regresses rho on eta (P(y beats pi) - 1/2), with P estimated by a preference model over samples of the
current policy; here P is 1 for the winner and 0 for the loser. beta = 1 / eta; the paper's eta is 1000. Both ends
have a target, so neither likelihood drifts.
"""

from __future__ import annotations

from pydantic import Field

from rather.methods.base import EndsOptions, Method, pairwise
from rather.objectives.links import SelfPlaySquare
from rather.objectives.preference import Preference


class Options(EndsOptions):
    beta: float = Field(1e-3, gt=0, description="1 / eta of the paper: the targets are +-1 / (2 beta)")


def build(options: Options) -> Preference:
    return pairwise(options, SelfPlaySquare(options.beta))


METHOD = Method(
    name="sppo_hard",
    title="Self-play preference optimization, hard labels",
    equation="(rho_w - 1/(2 beta))^2 + (rho_l + 1/(2 beta))^2",
    source="arXiv 2405.00675 eq. 4.7 with P of 0 or 1",
    options=Options,
    build=build,
    aliases=("sppo",),
    exceptions={"margin_only": "each end has its own target"},
)
