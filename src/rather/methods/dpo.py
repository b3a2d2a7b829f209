"""Direct preference optimization (DPO), arXiv 2305.18290.

    h = (log pi(y_w|x) - log ref(y_w|x)) - (log pi(y_l|x) - log ref(y_l|x)),   z = beta h
    L = -log sigma(z)                                                                        (eq. 7)

Log-probabilities are sums over response tokens. The loss is averaged over pairs. At pi = ref it is log 2. The
gradient on h is -beta sigma(-z): full on a pair that is ordered wrongly, gone on one that is far apart in the right
order.
"""

from __future__ import annotations

from rather.methods.base import Method, PairOptions, pairwise
from rather.objectives.links import Logistic
from rather.objectives.preference import Preference


def build(options: PairOptions) -> Preference:
    return pairwise(options, Logistic())


METHOD = Method(
    name="dpo",
    title="Direct preference optimization",
    equation="-log sigma(beta h)",
    source="arXiv 2305.18290 eq. 7",
    options=PairOptions,
    build=build,
    aliases=("sigmoid",),
    dpo_limit={},
)
