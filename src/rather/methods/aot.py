"""Alignment by optimal transport, paired (AOT), arXiv 2406.05882.

    L = mean_k -log sigma(beta (u_(k) - v_(k)))
    u = log pi(y_w|x) - log pi(y_l|x),  v = log ref(y_w|x) - log ref(y_l|x),  each sorted over the micro-batch

DPO asks every pair to beat its own reference margin; AOT asks the distribution of margins to dominate the reference's
(first-order stochastic dominance), quantile by quantile. One pair per micro-batch is DPO. The loss depends on the
micro-batch, so use as large a one as fits. An edge's weight goes with its policy margin.
"""

from __future__ import annotations

from rather.methods.base import Method, PairOptions, pairwise
from rather.objectives.links import Logistic
from rather.objectives.margins import SortedMargins
from rather.objectives.preference import Preference


def build(options: PairOptions) -> Preference:
    return pairwise(options, Logistic(), matching=SortedMargins())


METHOD = Method(
    name="aot",
    title="Alignment by optimal transport, on sorted margins",
    equation="-log sigma(beta (sorted(u) - sorted(v))),  u, v: margins of policy and reference",
    source="arXiv 2406.05882",
    options=PairOptions,
    build=build,
    aliases=("aot_pair",),
    dpo_limit={},
    exceptions={
        "split": "margins are sorted within the micro-batch",
        "shift": "policy and reference margins are sorted apart, so a common shift can change who meets whom",
    },
)
