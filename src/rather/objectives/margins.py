"""How the two ends of an edge are matched, and which margin is asked of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rather.objectives.scores import Layout


class Matched(nn.Module):
    """Each edge compares its own winner with its own loser."""

    couples_batch = False
    """Whether the loss of one edge depends on the others of its micro-batch."""

    def forward(self, policy: Tensor, reference: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
        """Policy and reference response scores [R] to the unscaled log-ratios (win [K], lose [K])."""
        ratio = policy - reference
        return ratio[layout.winner], ratio[layout.loser]


def by_rank(values: Tensor, like: Tensor) -> Tensor:
    """``values`` [K] rearranged so that entry k has the rank among ``values`` that ``like[k]`` has among ``like`` [K].

    Both vectors sorted and compared position by position give the same pairs; this keeps the order of ``like``, so
    that losses and weights stay with their edges.
    """
    order = like.detach().argsort(stable=True)
    return torch.empty_like(values).index_put((order,), values.sort(stable=True).values)


class SortedMargins(Matched):
    """AOT, paired (arXiv 2406.05882): each edge's policy margin against the reference margin of the same rank.

    Ranks are taken in the micro-batch. The pair is (policy margin, reference margin), in the order of the edges.
    """

    couples_batch = True

    def forward(self, policy: Tensor, reference: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
        of_policy = policy[layout.winner] - policy[layout.loser]
        of_reference = reference[layout.winner] - reference[layout.loser]
        return of_policy, by_rank(of_reference, of_policy)


class SortedResponses(Matched):
    """AOT, unpaired (arXiv 2406.05882): each winner's log-ratio against the loser's log-ratio of the same rank.

    Ranks are taken in the micro-batch. The pairs are in the order of the winners' edges.
    """

    couples_batch = True

    def forward(self, policy: Tensor, reference: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
        win, lose = super().forward(policy, reference, layout)
        return win, by_rank(lose, win)


class Offset(nn.Module):
    """The margin asked of an edge, in the unit of the scaled reward: constant + ``scale`` times the data's margin."""

    def __init__(self, constant: float = 0.0, scale: float = 0.0) -> None:
        super().__init__()
        self.constant, self.scale = constant, scale

    def forward(self, layout: Layout, like: Tensor) -> Tensor:
        margin = torch.nan_to_num(layout.margin, nan=0.0).to(like)
        return self.constant + self.scale * margin
