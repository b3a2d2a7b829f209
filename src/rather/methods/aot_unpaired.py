"""Alignment by optimal transport, unpaired (AOT), arXiv 2406.05882.

    L = mean_k -log sigma(beta (a_(k) - b_(k)))
    a = log-ratios of the winners, b = log-ratios of the losers, each sorted over the micro-batch

The distribution of the winners' rewards is asked to dominate the losers', quantile by quantile, whichever prompt they
come from. One pair per micro-batch is DPO. The loss depends on the micro-batch. An edge's weight goes with its
winner.
"""

from __future__ import annotations

from rather.methods.base import Method, PairOptions, pairwise
from rather.objectives.links import Logistic
from rather.objectives.margins import SortedResponses
from rather.objectives.preference import Preference


def build(options: PairOptions) -> Preference:
    return pairwise(options, Logistic(), matching=SortedResponses())


METHOD = Method(
    name="aot_unpaired",
    title="Alignment by optimal transport, on sorted rewards",
    equation="-log sigma(beta (sorted(rho_w) - sorted(rho_l)))",
    source="arXiv 2406.05882",
    options=PairOptions,
    build=build,
    dpo_limit={},
    exceptions={
        "split": "rewards are sorted within the micro-batch",
        "margin_only": "winners and losers of different pairs meet",
    },
)
