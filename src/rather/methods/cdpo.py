"""Conservative DPO (cDPO): label smoothing; compared with in arXiv 2403.00409.

    L = (1 - eps) l(z) + eps l(-z),   l(z) = -log sigma(z),   z = beta h

The cross-entropy to labels believed with probability 1 - eps: equal to l(z) + eps z, DPO with a constant pull back.
The margin settles at log((1 - eps) / eps). Under labels flipped at a known rate it stays biased; ``rdpo`` has the
opposite sign and is unbiased. ``labels.smoothing`` smooths any other link.
"""

from __future__ import annotations

from pydantic import Field

from rather.methods.base import Limit, Method, PairOptions, pairwise
from rather.objectives.labels import Smoothed
from rather.objectives.links import Logistic
from rather.objectives.preference import Preference


class Options(PairOptions):
    smoothing: float = Field(0.1, ge=0, lt=0.5, description="probability that a label is wrong")


def build(options: Options) -> Preference:
    return pairwise(options, Logistic(), labels=Smoothed(options.smoothing))


METHOD = Method(
    name="cdpo",
    title="Conservative DPO: smoothed labels",
    equation="(1-eps) l(z) + eps l(-z),  l = -log sigma,  z = beta h",
    source="arXiv 2403.00409 (as a baseline)",
    options=Options,
    build=build,
    aliases=("conservative",),
    dpo_limit={"smoothing": 0.0},
    limits=(Limit({"smoothing": 0.2}, "dpo", {"labels.smoothing": 0.2}),),
)
