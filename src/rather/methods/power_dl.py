"""POWER with dynamic labels (POWER-DL), arXiv 2412.09544; our reading.

    L = -[ l log sigma(D) + (1 - l) log sigma(-D) ] - eta beta w(y_w) log pi(y_w|x),     l detached
    l <- (1 - gamma) l + gamma sigma(D)    at every visit of the pair, l = 1 before the first

D and the SFT term are those of ``power``. The gradient on D is sigma(D) - l: a pair whose label has come to the model's own
prediction is left alone. Pairs that are met often move D faster than their label follows; a pair met rarely is caught
by its label before it can destroy a decent but unlucky response. In one epoch each pair is met once, and the label is a
self-made smoothing; it takes several epochs to work. Labels are kept by the pair's stable id, through shuffling,
several processes and resuming. ``labels.gamma`` gives the same labels to any other pairwise method.

``label_order`` is a choice of ours: ``update_first`` uses the label as it is after the visit, ``use_first`` as before.
"""

from __future__ import annotations

from pydantic import Field

from rather.methods import power
from rather.methods.base import Method
from rather.objectives.labels import LabelOrder, Moving
from rather.objectives.preference import Preference


class Options(power.Options):
    gamma: float = Field(0.1, ge=0, le=1, description="how far a label goes to the model's prediction at each visit")
    label_start: float = Field(1.0, ge=0, le=1, description="label of a pair before its first visit")
    label_order: LabelOrder = Field(
        "update_first", description="the label in the loss: after this visit's move, or before it"
    )


def build(options: Options) -> Preference:
    return power.build(options, labels=Moving(options.gamma, options.label_start, options.label_order))


METHOD = Method(
    name="power_dl",
    title="POWER with labels that drift to the model's own prediction",
    equation="-[l log sigma(D) + (1-l) log sigma(-D)] - eta beta w_w log pi_w,  l <- (1-gamma) l + gamma sigma(D)",
    source="arXiv 2412.09544, our reading",
    options=Options,
    build=build,
    needs=frozenset({"pairs"}),
    aliases=("dynamic_labels",),
    dpo_limit={"eta": 0.0, "reduce": "sum", "gamma": 0.0},
    exceptions={
        "gradient": "the label follows the margin without a gradient, which finite differences see",
        "margin_only": "the SFT term sees the winner's likelihood",
    },
)
