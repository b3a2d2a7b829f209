"""Log-ratio modulated loss (DiscoPOP), discovered by a language model, arXiv 2406.08414.

    m = sigma(z / temperature),   z = beta h
    L = (1 - m) (-log sigma(z)) + m exp(-z)                                                    (eq. 5)

Logistic on wrongly ordered pairs, exponential on rightly ordered ones, with a hump between them: about z = 0 the
gradient has the wrong sign, so that undecided pairs are let go. Temperatures above 1 are refused: there m exp(-z)
grows exponentially on wrong pairs.
"""

from __future__ import annotations

from pydantic import Field

from rather.methods.base import Method, PairOptions, pairwise
from rather.objectives.links import LogRatioModulated
from rather.objectives.preference import Preference


class Options(PairOptions):
    beta: float = Field(0.05, gt=0, description="scale of the implicit reward")
    temperature: float = Field(0.05, gt=0, le=1, description="width of the change from one loss to the other")


def build(options: Options) -> Preference:
    return pairwise(options, LogRatioModulated(options.temperature))


METHOD = Method(
    name="discopop",
    title="Discovered log-ratio modulated loss",
    equation="(1-m)(-log sigma(z)) + m exp(-z),  m = sigma(z/temperature),  z = beta h",
    source="arXiv 2406.08414 eq. 5",
    options=Options,
    build=build,
    exceptions={"direction": "the hump at z = 0 pushes undecided pairs the wrong way"},
)
