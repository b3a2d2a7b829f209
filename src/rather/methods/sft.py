"""Supervised fine-tuning on the preferred responses (SFT), as in arXiv 2203.02155 section 3.5.

    L = -mean over target tokens of log pi(y_t | x, y_<t)

Winners, desirable responses and lone ones are the targets; losers are not used. The mean is over all target tokens of
the optimizer step, so long responses weigh more; ``per=responses`` takes each response's mean first. The floor that a
preference method has to beat.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rather.methods.base import Method, MethodOptions
from rather.objectives.supervised import Supervised


class Options(MethodOptions):
    per: Literal["elements", "responses", "sums"] = Field(
        "elements", description="mean over tokens, over responses of their mean, or over responses of their sum"
    )


def build(options: Options) -> Supervised:
    return Supervised(options.per)


METHOD = Method(
    name="sft",
    title="Supervised fine-tuning on the preferred responses",
    equation="-log pi(y_w) per token",
    source="arXiv 2203.02155",
    options=Options,
    build=build,
    needs=frozenset({"targets"}),
    exceptions={
        "margin_only": "the likelihood of the winner is all there is",
        "weight": "the mean is over target tokens, which have no pair weight",
    },
)
