"""Preferences that need no scale: responses as vectors, compared by a skew-symmetric form (arXiv 2410.02197).

v = (v_0, ..., v_{2k-1}) in k planes, interleaved;  R turns every plane by 90 degrees;  lambda: weights of the planes
s(i > j) = <R v_i, v_j> = sum_l lambda_l (v_i[2l] v_j[2l+1] - v_i[2l+1] v_j[2l]),    P(i > j) = sigma(s / tau)

A scalar reward can only order responses; s can say that paper beats rock, rock scissors and scissors paper. It is
antisymmetric by construction. One plane with v = (r, 1) is Bradley-Terry with reward r.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from rather.errors import UserError
from rather.objectives.base import Objective
from rather.objectives.labels import Hard
from rather.objectives.links import Link, Pair
from rather.objectives.margins import Offset
from rather.objectives.outcome import Outcome, Term
from rather.objectives.parts import Seen, advance, observe
from rather.objectives.scores import Layout, Scores, segment_sum
from rather.objectives.tables import edge_keys

EMBEDDING, GATE = "embedding", "gate"
"""Names in ``Scores.extras``: [R, 2k] vectors and [R, k] weights of the planes, one row for each element."""


def skew_score(one: Tensor, other: Tensor, gate: Tensor | None = None) -> Tensor:
    """s(one > other) of vectors [..., 2k] under weights [..., k] of the planes (1 when left out): [...].

    The sign is that of <R v_i, v_j>, as in the released code; the paper's section 4.2 writes the opposite one.
    """
    planes = one[..., 0::2] * other[..., 1::2] - one[..., 1::2] * other[..., 0::2]
    return (planes if gate is None else gate * planes).sum(-1)


def score_table(vectors: Tensor, gate: Tensor | None = None) -> Tensor:
    """[n, n] s(i > j) of the responses to one prompt, from n vectors [n, 2k]; antisymmetric, zero on the diagonal.

    Args:
        gate: [k] weights of the planes.
    """
    return skew_score(vectors[:, None], vectors[None, :], gate)


def mean_scores(vectors: Tensor, group: Tensor, groups: int, gate: Tensor | None = None) -> Tensor:
    """[R] mean score of each response against its group, itself (0) included: s(v_i, mean of the group's vectors).

    The form is linear in either vector, so K responses cost K scores and not K^2. They add up to 0 in each group.

    Args:
        vectors: [R, 2k].
        group: [R] index of each response's group.
        gate: [R, k].
    """
    sums = vectors.new_zeros(groups, vectors.shape[1]).index_add(0, group, vectors)
    count = segment_sum(vectors.new_ones(group.shape), group, groups).clamp(min=1)
    return skew_score(vectors, (sums / count[:, None])[group], gate)


class EmbeddingPreference(Objective):
    """Loss of edges under P(i > j) = sigma(scale * s(i > j) - offset), with any link and label model.

    The policy's scores have to bring ``extras["embedding"]`` [R, 2k], and may bring ``extras["gate"]`` [R, k]; their
    elements do not enter. An outcome's rewards are the scaled mean scores against the responses that a response was
    shown with, its margins the scaled scores themselves (of two responses, differences of rewards).

    Args:
        scale: 1 / tau.
        link: loss of an edge from its margin.
        labels: label model.
        offset: the margin that is asked for, in the unit of the scaled score.
    """

    needs_reference = False

    def __init__(self, *, scale: float, link: Link, labels: Hard | None = None, offset: Offset | None = None) -> None:
        super().__init__()
        self.scale, self.link = scale, link
        self.labels, self.offset = labels or Hard(), offset or Offset()

    def forward(self, policy: Scores, reference: Scores | None, layout: Layout) -> Outcome:
        """
        Raises:
            UserError: the scores bring no embedding.
        """
        vectors, gate = _by_response(policy, EMBEDDING), _by_response(policy, GATE)
        if vectors is None:
            fix = "it is a loss of reward models with embeddings: --model reward:MODEL?head=gpm, or rather fit-reward"
            raise UserError("the policy's scores hold no embedding of the responses", where="gpm", fix=fix)
        win, lose = layout.winner, layout.loser
        z = self.scale * skew_score(vectors[win], vectors[lose], None if gate is None else gate[win])
        means = mean_scores(vectors, layout.prompt, layout.lists, gate)
        rewards = (self.scale * means).detach()
        zeros = torch.zeros_like(rewards)
        pair = Pair(z, torch.zeros_like(z), self.offset(rewards, zeros, layout))
        key = edge_keys(layout)
        per_edge = self.labels(self.link, pair, layout.probability, key)
        seen = Seen(rewards, zeros, layout, Pair(*(part.detach() for part in pair)), key)
        return Outcome(
            terms=(Term("preference", per_edge * layout.weight.to(per_edge), "edges"),),
            rewards=rewards,
            margins=z.detach(),
            per_edge=per_edge,
            logps=segment_sum(policy.elements.detach(), policy.response, layout.responses),
            observations=observe(self, seen),
        )

    def advance(self, observations: Mapping[str, Tensor]) -> None:
        advance(self, observations)


class OnePlane(Objective):
    """An objective of embeddings as a function of plain scores: v = (score of the response, height), so that
    s = height * (difference of the scores)."""

    def __init__(self, objective: Objective, height: float = 1.0) -> None:
        super().__init__()
        self.objective, self.height = objective, height
        self.needs_reference = objective.needs_reference

    def forward(self, policy: Scores, reference: Scores | None, layout: Layout) -> Outcome:
        rewards = segment_sum(policy.elements, policy.response, layout.responses)
        extras = {EMBEDDING: torch.stack([rewards, torch.full_like(rewards, self.height)], 1)}
        given = Scores(rewards, torch.arange(layout.responses, device=rewards.device), extras)
        return self.objective(given, reference, layout)

    def advance(self, observations: Mapping[str, Tensor]) -> None:
        self.objective.advance(observations)


def _by_response(scores: Scores, name: str) -> Tensor | None:
    """Rows of an extra [R, d] in the order of the responses, in float32 at least."""
    rows = scores.extras.get(name)
    if rows is None:
        return None
    rows = rows if rows.dtype == torch.float64 else rows.float()
    return torch.empty_like(rows).index_copy(0, scores.response, rows)
