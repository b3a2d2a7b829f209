"""Rankings as random orders: Plackett-Luce distributions, how far two are apart, and a student that follows a teacher.

log P_u(tau) = sum_k [ b u_{tau_k} - logsumexp_{l >= k} b u_{tau_l} ]        scores u, scale b, best first
"""

from __future__ import annotations

import math
from functools import cache
from itertools import permutations
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from rather.objectives.base import Objective
from rather.objectives.groups import group_weight, ratings
from rather.objectives.outcome import Outcome, Term
from rather.objectives.scores import Layout, Reduction, Scores, reduce_elements, segment_sum

Divergence = Literal["js", "code", "vpd"]


@cache
def orders(n: int) -> Tensor:
    """[n!, n] all orders of n things, in lexicographic order."""
    return torch.tensor(list(permutations(range(n))), dtype=torch.long)


def log_likelihood(ranked: Tensor) -> Tensor:
    """[...] log-probability of an order, from the scores [..., n] of the ranked things, best first."""
    # The logsumexp over what is left at each position, from the end.
    rest = ranked.flip(-1).logcumsumexp(-1).flip(-1)
    return (ranked - rest).sum(-1)


def log_distribution(scores: Tensor) -> Tensor:
    """[..., n!] log-probability of every order (see ``orders``) of things with scores [..., n]."""
    return log_likelihood(scores[..., orders(scores.shape[-1]).to(scores.device)])


def teacher_order(value: Tensor) -> Tensor:
    """[..., n] indices by falling value [..., n]; the first of equals comes first."""
    return value.sort(dim=-1, descending=True, stable=True).indices


def divergence(log_p: Tensor, log_q: Tensor, kind: Literal["js", "code"] = "js") -> Tensor:
    """[...] divergence of distributions given by log-probabilities [..., N], about their mixture M = (P + Q) / 2.

    ``js``: KL(P||M)/2 + KL(Q||M)/2, Jensen and Shannon's, within [0, log 2]. ``code``: KL(M||P)/2 + KL(M||Q)/2, what the
    released function computes; not bounded.
    """
    log_m = torch.logaddexp(log_p, log_q) - math.log(2.0)

    def kl(a: Tensor, b: Tensor) -> Tensor:
        return (a.exp() * (a - b)).sum(-1)

    if kind == "js":
        return 0.5 * kl(log_p, log_m) + 0.5 * kl(log_q, log_m)
    return 0.5 * kl(log_m, log_p) + 0.5 * kl(log_m, log_q)


def partition(key: int, n: int, size: int) -> list[np.ndarray]:
    """n things in ceil(n / size) groups that differ in size by one at most, at random by ``key`` alone."""
    groups = -(-n // size)
    order = np.random.default_rng(key).permutation(n) if groups > 1 else np.arange(n)
    return [np.sort(part) for part in np.array_split(order, groups)]


class RankingDistillation(Objective):
    """A student's distribution over rankings follows a teacher's (arXiv 2502.14272), both Plackett-Luce.

    The student's score of a response is its own (mean) log-probability, the teacher's the data's rating
    (``Layout.value``); both times beta. Averaged over comparisons that have an order (one edge at least): equal ratings
    throughout say nothing. A comparison's weight, if the data has one, multiplies its term. ``per_edge`` is the loss of
    each comparison [C].

    Args:
        beta: scale of both scores.
        kind: ``js`` or ``code``: divergence of the two distributions over all orders (see ``divergence``); ``vpd``:
            -log P_student of the teacher's order, in which the first of equal ratings comes first.
        group_size: more responses than that are split at random (by the comparison's key, so always the same way) into
            groups that are compared within and averaged; ``vpd`` needs no groups and ignores it.
        reduce: from elements to the student's score.
    """

    needs_reference = False

    def __init__(
        self, *, beta: float, kind: Divergence = "js", group_size: int = 4, reduce: Reduction = "mean"
    ) -> None:
        super().__init__()
        self.beta, self.group_size = beta, group_size
        self.kind: Divergence = kind
        self.reduce: Reduction = reduce
        self.needs_lengths = reduce == "mean"

    def forward(self, policy: Scores, reference: Scores | None, layout: Layout) -> Outcome:
        """
        Raises:
            UserError: a response has no rating.
        """
        student = self.beta * reduce_elements(policy, layout.lengths, self.reduce)
        rows = layout.compared.nonzero().flatten()
        teacher = torch.zeros_like(student).index_copy(0, rows, self.beta * ratings(layout, rows).to(student))
        total = student.new_zeros(layout.lists)
        count = student.new_zeros(layout.lists)
        for members, owner in self._groups(layout, rows):
            value = self._loss(student[members], teacher[members])
            total = total.index_add(0, owner, value)
            count = count.index_add(0, owner, torch.ones_like(value))
        per_list = total / count.clamp(min=1)
        ordered = torch.zeros(layout.lists, dtype=torch.bool, device=total.device)
        ordered[layout.edge_list] = True
        rewards = student.detach()
        return Outcome(
            terms=(Term("ranking", per_list * group_weight(layout).to(per_list) * ordered, "lists"),),
            rewards=rewards,
            margins=rewards[layout.winner] - rewards[layout.loser],
            per_edge=per_list,
            logps=segment_sum(policy.elements.detach(), policy.response, layout.responses),
        )

    def _groups(self, layout: Layout, rows: Tensor) -> list[tuple[Tensor, Tensor]]:
        """(responses [G, n], their comparison [G]) of the groups of each size n."""
        by_size: dict[int, list[tuple[np.ndarray, int]]] = {}
        members: list[list[int]] = [[] for _ in range(layout.lists)]
        for row, owner in zip(rows.tolist(), layout.prompt[rows].tolist(), strict=True):
            members[owner].append(row)
        for owner, (key, mine) in enumerate(zip(layout.key.tolist(), members, strict=True)):
            size = len(mine) if self.kind == "vpd" else self.group_size
            for part in partition(key, len(mine), size) if mine else []:
                by_size.setdefault(len(part), []).append((np.asarray(mine)[part], owner))
        device = rows.device
        return [
            (
                torch.from_numpy(np.stack([part for part, _ in found])).to(device),
                torch.tensor([owner for _, owner in found], device=device),
            )
            for found in by_size.values()
        ]

    def _loss(self, student: Tensor, teacher: Tensor) -> Tensor:
        """[G] losses of scaled scores [G, n]."""
        if self.kind == "vpd":
            return -log_likelihood(student.gather(-1, teacher_order(teacher)))
        return divergence(log_distribution(student), log_distribution(teacher), self.kind)
