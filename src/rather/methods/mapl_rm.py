"""Multi-level aware preference learning (MAPL), arXiv 2505.12845, in the form for reward models.

    L = L_BT + intra_weight * L_intra + inter_weight * L_inter,   r in place of the log-ratio rho of ``mapl``

    L_BT = -log sigma(r(x, y_w) - r(x, y_l)),   L_intra = -log sigma(r(x_w, y) - r(x_l, y)),
    L_inter = -log sigma((r(x_a, y_w) - r(x_a, y_l)) - (r(x_b, y_w) - r(x_b, y_l)))

The same data and options as ``mapl`` (see there), without a reference; beta, 1 here, scales the score. With the intra
sets of ``response_conditioned`` and inter_weight 0 it is Rc-RM (arXiv 2502.00814).
"""

from __future__ import annotations

from pydantic import Field

from rather.methods import mapl
from rather.methods.base import Method
from rather.objectives.preference import Preference


class Options(mapl.Options):
    beta: float = Field(1.0, gt=0, description="scale of the score")


def build(options: Options) -> Preference:
    return mapl.contrasting(options, needs_reference=False)


METHOD = Method(
    name="mapl_rm",
    title="A reward model with contrasts of prompts and of margins under checkable instructions",
    equation="-log sigma(r_w - r_l) - l1 log sigma(r(x_w, y) - r(x_l, y)) - l2 log sigma(Delta_a - Delta_b)",
    source="arXiv 2505.12845",
    options=Options,
    build=build,
    needs=frozenset({"pairs", "reward", "auxiliary"}),
    dpo_limit={"beta": 0.1, "intra_weight": 0.0, "inter_weight": 0.0},
    augment=mapl.augment,
)
