"""Preference optimization with weighted entropy and robust rewards (POWER), arXiv 2412.09544; our reading.

    D = beta [ w(y_w) log pi(y_w|x) - w(y_l) log pi(y_l|x) + w(y_w) - w(y_l) ],     w(y) = 1/|y|
    L = -log sigma(D) - eta beta w(y_w) log pi(y_w|x)

Re-derived from the ingredients that the abstract names, Guiasu's weighted entropy and rewards chosen by an adversary; the
paper's own equations were not read. Rewards of an entropy weighted by w are beta w (1 + log pi), hence the bare w: at
equal mean log-probabilities the longer response has the lower reward. The second term is what robustness leaves, an SFT
term of strength eta. There is no reference; the policy starts at one. ``reduce`` chooses the weight: ``mean`` is
w = 1/|y|, ``sum`` is w = 1. The SFT term is a mean over the preferred responses.

With eta > 0 a response that is chosen at least once keeps mass, and a lucky one does not take it all. ``power_dl`` adds
labels that move. beta is 2 to 10, eta 5e-4 to 1e-3.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from rather.methods.base import Method, PairOptions, pairwise
from rather.objectives.anchors import Likelihood
from rather.objectives.links import Logistic
from rather.objectives.margins import InverseLengthGap
from rather.objectives.preference import Preference
from rather.objectives.scores import Reduction


class Options(PairOptions):
    beta: float = Field(2.0, gt=0, description="scale of the weighted log-probability")
    eta: float = Field(1e-3, ge=0, description="strength of pessimism: weight of the SFT term, times beta")
    reduce: Reduction = Field("mean", description="entropy weight of a response: mean is 1/|y|, sum is 1")


def build(options: Options, **parts: Any) -> Preference:
    by_length = options.reduce == "mean"
    likelihood = Likelihood(options.eta * options.beta, "responses" if by_length else "sums")
    return pairwise(
        options,
        Logistic(),
        needs_reference=False,
        margins=[InverseLengthGap(options.beta)] if by_length else [],
        anchors=[likelihood] if options.eta else [],
        **parts,
    )


METHOD = Method(
    name="power",
    title="Preference optimization with weighted entropy and robust rewards, without a reference",
    equation="-log sigma(D) - eta beta w_w log pi_w,  D = beta [w_w (1 + log pi_w) - w_l (1 + log pi_l)],  w = 1/|y|",
    source="arXiv 2412.09544, our reading",
    options=Options,
    build=build,
    needs=frozenset({"pairs"}),
    aliases=("weighted_entropy",),
    dpo_limit={"eta": 0.0, "reduce": "sum"},
    exceptions={"margin_only": "the SFT term sees the winner's likelihood"},
)
