"""ORPO with rationales (R-ORPO of its paper), arXiv 2407.14477, by the released code.

    L = NLL(y_w) - odds_weight * log sigma(log odds_w - log odds_l) - gamma a_r                     link=log
    L = NLL(y_w) - odds_weight * log sigma(log odds_w - log odds_l) - log sigma(gamma a_r)          link=logsigmoid

odds = p / (1 - p) of p = exp(mean log pi(y|x)), as in ORPO (arXiv 2403.07691). a_r is the MEAN log-probability per token
of the rationale under the verdict prompt (in ``rationale_dpo`` it is the sum). NLL is the mean over all tokens of the
step's chosen responses. No reference. A pair without a rationale has no third term; without any, or with gamma 0, this is
ORPO with that mean.
"""

from __future__ import annotations

from pydantic import Field

from rather.methods.base import Method, pairwise
from rather.methods.rationale_dpo import RationaleOptions, augment
from rather.objectives.auxiliary import AuxiliaryLikelihood
from rather.objectives.links import Logistic
from rather.objectives.preference import Preference
from rather.objectives.scores import Reduction
from rather.objectives.transforms import log_odds


class Options(RationaleOptions):
    beta: float = Field(1.0, gt=0, description="scale of the log odds; 1 in the paper")
    odds_weight: float = Field(0.1, ge=0, description="weight of the odds-ratio term, beta of the paper")
    gamma: float = Field(1.0, ge=0, description="weight of the rationale's mean log-probability per token")
    sft: float = Field(1.0, ge=0, description="weight of the SFT term: mean over tokens of the chosen responses")
    reduce: Reduction = Field("mean", description="a response's score: sum or mean over its tokens")


def build(options: Options) -> Preference:
    return pairwise(
        options,
        Logistic(),
        needs_reference=False,
        transform=log_odds,
        coefficient=options.odds_weight,
        anchors=[AuxiliaryLikelihood("rationale", options.gamma, link=options.link, reduce="mean")],
    )


METHOD = Method(
    name="rationale_orpo",
    title="ORPO and the likelihood of the reason for each preference",
    equation="NLL(y_w) - lambda log sigma(log odds_w - log odds_l) - gamma mean log pi(rationale)",
    source="arXiv 2407.14477",
    options=Options,
    build=build,
    needs=frozenset({"pairs", "likelihood", "auxiliary"}),
    exceptions={"margin_only": "odds, the SFT term and the rationale see the level of the likelihood"},
    augment=augment,
)
