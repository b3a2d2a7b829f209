"""Kahneman-Tversky optimization (KTO), arXiv 2402.01306.

    z0 = max(0, mean log-ratio),  detached
    desirable    lambda_d (1 - sigma(beta (rho - z0)))
    undesirable  lambda_u (1 - sigma(beta (z0 - rho)))                                        (eq. 8)

Single responses marked good or bad, no pairs; each end of a pair counts as a mark, so pairs can be used as well. Both
curves are flat far from z0: hopeless examples are let go.

z0 stands for KL(pi || ref). The paper estimates it on mismatched prompts and responses; here it is the mean log-ratio
of the judged responses themselves, over the previous optimizer step (``previous``; in the first step the micro-batch),
over the micro-batch (``batch``) or over all steps (``running``). With unequal numbers of marks choose the lambdas so
that lambda_d n_d / (lambda_u n_u) is near 1.
"""

from __future__ import annotations

from pydantic import Field

from rather.methods.base import Method, ScaleOptions
from rather.objectives.baselines import Baseline, BaselineMode
from rather.objectives.links import Sigmoid
from rather.objectives.pointwise import Pointwise


class Options(ScaleOptions):
    baseline: BaselineMode = Field(
        "previous", description="z0 from: the previous step, the batch, all steps so far; none: 0"
    )
    desirable_weight: float = Field(1.0, ge=0, description="lambda_d, factor on desirable responses")
    undesirable_weight: float = Field(1.0, ge=0, description="lambda_u, factor on undesirable responses")


def build(options: Options) -> Pointwise:
    return Pointwise(
        beta=options.beta,
        reduce=options.reduce,
        curve=Sigmoid(),
        baseline=Baseline(options.baseline, floor=0.0),
        desirable_weight=options.desirable_weight,
        undesirable_weight=options.undesirable_weight,
        edge_scale=0.5,
    )


METHOD = Method(
    name="kto",
    title="Kahneman-Tversky optimization, on unpaired marks",
    equation="1 - sigma(beta (rho - z0)) if desirable, 1 - sigma(beta (z0 - rho)) if not",
    source="arXiv 2402.01306 eq. 8",
    options=Options,
    build=build,
    needs=frozenset({"marks", "reference"}),
    exceptions={"margin_only": "rewards are measured from a baseline"},
)
