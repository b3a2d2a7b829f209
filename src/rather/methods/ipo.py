"""Identity preference optimization (IPO), arXiv 2310.12036.

    L = (h - 1 / (2 beta))^2                                                                  (eq. 17, beta = tau)

DPO's loss falls for ever as the margin grows, so on a finite data set it overfits; IPO asks for a margin of 1 / (2
beta) and pulls back what exceeds it. Scores are means over tokens, as the paper's authors confirmed for their
experiments; ``reduce=sum`` is the formula read literally. The gradient grows linearly with the distance from the
target.
"""

from __future__ import annotations

from pydantic import Field

from rather.methods.base import Method, PairOptions, pairwise
from rather.objectives.links import Square
from rather.objectives.preference import Preference
from rather.objectives.scores import Reduction


class Options(PairOptions):
    beta: float = Field(0.1, gt=0, description="tau of the paper: the margin asked for is 1 / (2 beta)")
    reduce: Reduction = Field("mean", description="a response's score: sum or mean over its tokens")


def build(options: Options) -> Preference:
    return pairwise(options, Square(options.beta))


METHOD = Method(
    name="ipo",
    title="Identity preference optimization",
    equation="(h - 1/(2 beta))^2,  h from means over tokens",
    source="arXiv 2310.12036 eq. 17",
    options=Options,
    build=build,
)
