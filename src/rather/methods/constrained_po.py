"""Constrained preference optimization, arXiv 2605.20834 (its acronym CPO is taken by contrastive PO, ``cpo``).

    L = -log sigma(beta (d - d_ref) - m),   d = s(y_w) - s(y_l),   s = mean log pi,   m >= 0 detached

DPO raises an advantage over the reference. Where the reference orders a pair wrongly (d_ref < 0) that leaves a set
d_ref < d < 0 in which the loss is below its start and the rejected response is still the likelier one. Adding
gamma E[d] to the RLHF objective gives DPO with a margin that is larger for worse references. Variants of the margin:

    softplus    m = beta / alpha * softplus(tau (gamma - d_ref)) / tau          released; the default
    clip        m = beta max(0, -d_ref), so that z = beta (d - max(0, d_ref))   released, the default there
    eq17        m = gamma (exp(-r_w) + exp(-r_l)), r the reference's scores     eq. 17; that r are means is our reading
    easy_code   m = gamma (1/r_w + 1/r_l)                                       released; r < 0, so m < 0: against the theory

beta is large because scores are means. alpha divides: a smaller one is a larger margin. The reward accuracy (d > d_ref) is
no measure of success here, d > 0 is (``accuracy/logps_mean`` of the evaluation); every run with a reference writes the
share of pairs in the set above as ``frac_in_U``.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import nn

from rather.methods.base import Method, PairOptions, pairwise
from rather.objectives.links import Logistic
from rather.objectives.margins import (
    ClippedReference,
    InverseLogProbabilities,
    InverseProbabilities,
    SoftplusReference,
)
from rather.objectives.preference import Preference
from rather.objectives.scores import Reduction


class Options(PairOptions):
    beta: float = Field(2.5, gt=0, description="scale of the implicit reward")
    variant: Literal["softplus", "clip", "easy_code", "eq17"] = Field("softplus", description="kind of margin")
    gamma: float = Field(0.05, ge=0, description="softplus: margin asked of the policy; eq17, easy_code: factor on m")
    tau: float = Field(2.0, gt=0, description="softplus: sharpness")
    alpha: float = Field(0.25, gt=0, description="softplus: divides the margin")
    reduce: Reduction = Field("mean", description="a response's score: sum or mean over its tokens")


def margin(options: Options) -> nn.Module:
    match options.variant:
        case "softplus":
            return SoftplusReference(options.beta / options.alpha, options.gamma, options.tau)
        case "clip":
            return ClippedReference(options.beta)
        case "eq17":
            return InverseProbabilities(options.gamma)
        case "easy_code":
            return InverseLogProbabilities(options.gamma)


def build(options: Options) -> Preference:
    return pairwise(options, Logistic(), margins=[margin(options)])


METHOD = Method(
    name="constrained_po",
    title="Constrained preference optimization: a margin where the reference is wrong",
    equation="-log sigma(beta (d - d_ref) - m),  m = beta/alpha softplus(tau (gamma - d_ref)) / tau",
    source="arXiv 2605.20834",
    options=Options,
    build=build,
    aliases=("constrained_cpo",),
    dpo_limit={"variant": "eq17", "gamma": 0.0, "reduce": "sum"},
    exceptions={"shift": "the margin depends on the reference's own order"},
)
