"""Multi-level aware preference learning (MAPL), arXiv 2505.12845, in the form for policies.

    L = L_DPO + intra_weight * L_intra + inter_weight * L_inter
    L_intra = -log sigma(rho(x_w, y) - rho(x_l, y))
    L_inter = -log sigma(Delta_a - Delta_b),   Delta_z = rho(x_z, y_w) - rho(x_z, y_l)

rho(x, y) = beta (log pi(y|x) - log ref(y|x)), summed over response tokens; each part is a mean over its own items. The
prompts x_w, x_l, x_a, x_b are the comparison's with one to ``constraints`` instructions added that programs check
(``rather.worlds.instructions``): no annotator is needed.

intra: a response y of the pair (a fair coin says which) obeys all of x_w and not all of x_l (relation a), or at least
one of x_w and none of x_l (relation b). Every added instruction is one that one of the two responses obeys and the other
breaks, so with both relations the prompts alone say nothing about which is better. ``response_conditioned`` takes the
sets of Rc-DPO (arXiv 2502.00814): x over x with a length limit that y_w breaks, and x with a limit that y_l obeys over x.
inter: y_w obeys all of x_a where y_l breaks all of it; x_b is the reverse (contrast) or the plain prompt (strengthen).
Whatever depends on the prompt or on the response alone cancels in it; the logit is that of IOPO (arXiv 2411.06208). ``bt``
takes (x_a, y_w > y_l) and (x_b, y_l > y_w) as two preferences instead, which re-labels the pair by its constraints.

Our reading: the paper's own text of the inter part could not be had, so its form and data, and the numbers of
constraints, are ours; its intra part by a review. The conditional log-ratio leaves the prompt's log-partition in intra.
Constraints stand at the end of the prompt: keep --truncation prompt_start, which cuts the other end.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from rather.data.types import Comparison, Role
from rather.methods.base import Method, PairOptions, pairwise
from rather.objectives.contrasts import Contrast
from rather.objectives.links import Logistic
from rather.objectives.preference import Preference
from rather.worlds.instructions.mixes import Inter, Intra, augmented


class Options(PairOptions):
    intra_weight: float = Field(1.0, ge=0, description="weight of contrasts of two prompts for one response")
    inter_weight: float = Field(1.0, ge=0, description="weight of contrasts of two margins; lambda_2 of the paper")
    intra: Intra = Field("both", description="how the prompts differ: a, b, both, or response_conditioned (Rc-DPO)")
    inter: Inter = Field(
        "contrast", description="the other prompt: contrast, strengthen (plain), or bt: two preferences"
    )
    constraints: int = Field(3, ge=1, le=5, description="most instructions added to a prompt")


def build(options: Options) -> Preference:
    return contrasting(options, needs_reference=True)


def contrasting(options: Options, *, needs_reference: bool) -> Preference:
    """The base loss with its contrasts, of log-ratios or of scores."""
    weights: dict[Role, float] = {"intra": options.intra_weight, "inter": options.inter_weight}
    shared = {"beta": options.beta, "reduce": options.reduce, "needs_reference": needs_reference}
    anchors = [Contrast(role, weight, **shared) for role, weight in weights.items() if weight]
    return pairwise(options, Logistic(), needs_reference=needs_reference, anchors=anchors)


def augment(options: Options, comparisons: Sequence[Comparison], seed: int) -> list[Comparison]:
    intra = options.intra if options.intra_weight else None
    inter = options.inter if options.inter_weight else None
    return [augmented(one, seed, intra=intra, inter=inter, most=options.constraints) for one in comparisons]


METHOD = Method(
    name="mapl",
    title="DPO with contrasts of prompts and of margins under checkable instructions",
    equation="-log sigma(beta h) - l1 log sigma(rho(x_w, y) - rho(x_l, y)) - l2 log sigma(Delta_a - Delta_b)",
    source="arXiv 2505.12845",
    options=Options,
    build=build,
    needs=frozenset({"pairs", "reference", "auxiliary"}),
    aliases=("mapl_dpo",),
    dpo_limit={"intra_weight": 0.0, "inter_weight": 0.0},
    augment=augment,
)
