"""Preference optimization by probabilities over several negatives (MPPO), arXiv 2412.15244, as released.

    L = -log sigma(beta (K p_w - sum_j p_j)),   p = exp(log pi(y|x))

No reference; probabilities in place of their logarithms, so a response that is unlikely already has nearly no gradient. The
released trainer that this follows takes the probability of the whole response, which for long ones is 0 in practice;
``reduce = mean`` is the length-averaged likelihood of the paper. Averaged over lists. Needs true probabilities.
"""

from __future__ import annotations

import torch
from pydantic import Field

from rather.methods.base import Method, PairOptions, pairwise
from rather.objectives.links import Logistic
from rather.objectives.listwise import SumMargin
from rather.objectives.preference import Preference
from rather.objectives.scores import Reduction


class Options(PairOptions):
    beta: float = Field(1.0, gt=0, description="scale of the difference of probabilities")
    reduce: Reduction = Field(
        "sum", description="sum: probability of a response; mean: geometric mean over its tokens"
    )


def build(options: Options) -> Preference:
    return pairwise(options, Logistic(), needs_reference=False, transform=torch.exp, pool=SumMargin())


METHOD = Method(
    name="mppo",
    title="Probabilities against those of several negatives, without a reference",
    equation="-log sigma(beta (K p_w - sum_j p_j)),  p = exp log pi",
    source="arXiv 2412.15244",
    options=Options,
    build=build,
    needs=frozenset({"lists", "likelihood"}),
    exceptions={"margin_only": "probabilities see the level of the likelihood"},
)
