"""Preference-aligned distillation (PAD), arXiv 2502.14272: a student takes over a teacher's distribution over rankings.

    P_u(tau) = prod_k exp(beta u_{tau_k}) / sum_{l >= k} exp(beta u_{tau_l})        Plackett-Luce over all n! orders
    s_i = mean log pi(y_i|x)        the student's score;    t_i: the teacher's, which comes with the data
    js    L = JSD(P_s, P_t) = KL(P_s||M)/2 + KL(P_t||M)/2,  M = (P_s + P_t)/2
    code  L = KL(M||P_s)/2 + KL(M||P_t)/2                   what the released function computes for one prompt
    vpd   L = -log P_s(the teacher's order)

No reference, and no teacher in memory. Averaged over prompts. Teacher scores are mean log-probabilities of the responses
under the teacher, or its answers to multiple-choice questions about pairs of them (`rather sample --judge likelihood:M` or
`choice:M`). The divergences ask for the teacher's margins, vpd only for its order, for margins ever wider. n responses
cost n!, so more than `group_size` are split into groups, the same way each time they are seen; the paper draws new groups
each epoch. Groups and their equal sizes are our reading, as is averaging over groups; tied scores rank by position.

The released batched function mixes the prompts of a batch into one M; that is not offered. Two responses: vpd is SimPO
without a margin.
"""

from __future__ import annotations

from pydantic import Field

from rather.methods.base import Method, ScaleOptions
from rather.objectives.plackett_luce import Divergence, RankingDistillation
from rather.objectives.scores import Reduction


class Options(ScaleOptions):
    beta: float = Field(10.0, gt=0, description="scale of both sides' scores; with summed scores it saturates")
    divergence: Divergence = Field("js", description="js: Jensen-Shannon; code: as released; vpd: the order alone")
    group_size: int = Field(4, ge=2, le=8, description="most responses compared at once by js and code")
    reduce: Reduction = Field("mean", description="a response's score: sum or mean over its tokens")


def build(options: Options) -> RankingDistillation:
    return RankingDistillation(
        beta=options.beta, kind=options.divergence, group_size=options.group_size, reduce=options.reduce
    )


METHOD = Method(
    name="pad",
    title="Preference-aligned distillation of a teacher's rankings",
    equation="JSD(PL(beta s), PL(beta t)),  s = mean log pi",
    source="arXiv 2502.14272",
    options=Options,
    build=build,
    needs=frozenset({"lists", "scores"}),
    dpo_limit={"divergence": "vpd", "reduce": "sum"},
)
