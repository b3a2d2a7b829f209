"""Sequence likelihood calibration with a hinge (SLiC-HF), arXiv 2305.10425, in the form of RSO, arXiv 2309.06657.

    L = max(0, 1 - beta h)

SLiC-HF has max(0, delta - log pi(y_w|x) + log pi(y_l|x)) plus a likelihood term; RSO subtracts the reference and
divides by the margin delta = 1 / beta. A pair beyond the margin has no gradient at all, one within it a constant
gradient -beta.
"""

from __future__ import annotations

from rather.methods.base import Method, PairOptions, pairwise
from rather.objectives.links import Hinge
from rather.objectives.preference import Preference


def build(options: PairOptions) -> Preference:
    return pairwise(options, Hinge())


METHOD = Method(
    name="hinge",
    title="Hinge on the log-ratio margin",
    equation="max(0, 1 - beta h)",
    source="arXiv 2305.10425, in the form of arXiv 2309.06657",
    options=PairOptions,
    build=build,
    aliases=("slic",),
)
