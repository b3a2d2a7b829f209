"""Odds-ratio preference optimization (ORPO), arXiv 2403.07691.

    p = exp(mean log pi(y|x)),   odds = p / (1 - p)
    L = NLL(y_w) - odds_weight * log sigma(log odds_w - log odds_l)                           (eqs. 6, 7)

One stage from a base model: SFT with a small penalty on the rejected style, no reference. NLL is the mean over
responses of the mean over tokens. ``odds_weight`` is the paper's lambda (called beta elsewhere); ``beta`` scales the
log-odds and is 1 in the paper. Needs true probabilities: a denoising bound has no odds. As p nears 1 the odds, and
their gradient, grow without bound; a probability that rounds to 1 counts as 1 - eps.
"""

from __future__ import annotations

from pydantic import Field

from rather.methods.base import Method, PairOptions, pairwise
from rather.objectives.links import Logistic
from rather.objectives.preference import Preference
from rather.objectives.scores import Reduction
from rather.objectives.transforms import log_odds


class Options(PairOptions):
    beta: float = Field(1.0, gt=0, description="scale of the log odds; 1 in the paper")
    odds_weight: float = Field(0.1, ge=0, description="weight of the odds-ratio term, lambda of the paper")
    sft: float = Field(1.0, ge=0, description="weight of the SFT term: mean over responses of the mean token NLL")
    reduce: Reduction = Field("mean", description="a response's score: sum or mean over its tokens")


def build(options: Options) -> Preference:
    return pairwise(
        options,
        Logistic(),
        sft_per="responses",
        needs_reference=False,
        transform=log_odds,
        coefficient=options.odds_weight,
    )


METHOD = Method(
    name="orpo",
    title="Odds-ratio preference optimization, without a reference",
    equation="NLL(y_w) - lambda log sigma(log odds_w - log odds_l)",
    source="arXiv 2403.07691 eqs. 6, 7",
    options=Options,
    build=build,
    needs=frozenset({"pairs", "likelihood"}),
    exceptions={"margin_only": "odds and the SFT term see the level of the likelihood"},
)
