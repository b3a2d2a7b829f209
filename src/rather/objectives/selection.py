"""Selections: which edges of a list take part in its loss, and with which factor on beta.

A selection looks at the policy's scores alone, without gradient, and is made anew in every forward pass.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from rather.objectives.listwise import mean_by_list
from rather.objectives.parts import Seen, Selection
from rather.objectives.scores import Layout, segment_sum


class BoundaryNegatives(nn.Module):
    """The negatives at the boundary of what the policy tells apart (DynamicPO, arXiv 2605.00327, as released).

    A loser with a score at or above its winner's (a violation) is at the boundary. In a list without violations, those
    in the highest of three clusters of the losers' scores are (exact one-dimensional k-means). With d1 the winner's lead
    over a boundary loser and d2 that loser's lead over the mean of the losers left out (over that of all, when none is),

        factor = 1 + 1/2 tanh((d1 - d2 - gamma) / (|d1| + |d2|))

    so violations and losers close to the winner get the smaller beta. For gamma >= 0 it lies between 1/2 and 1.381.

    Args:
        gamma: in the unit of the scores.
        dynamic_beta: whether beta moves; otherwise the factor is 1.
        clusters: number of clusters, at least 2; a list of at most that many losers keeps its highest.
    """

    def __init__(self, gamma: float = 6.0, dynamic_beta: bool = True, clusters: int = 3) -> None:
        super().__init__()
        self.gamma, self.dynamic_beta, self.clusters = gamma, dynamic_beta, clusters

    @torch.no_grad()
    def forward(self, policy: Tensor, layout: Layout) -> Selection:
        """From the policy's response scores [R]; a constant on all scores of a list changes nothing."""
        win, lose = policy[layout.winner], policy[layout.loser]
        violation = lose >= win
        violated = segment_sum(violation.float(), layout.edge_list, layout.lists)[layout.edge_list] > 0
        kept = torch.where(violated, violation, in_top_cluster(lose, layout, self.clusters))
        left_out = segment_sum((~kept).float(), layout.edge_list, layout.lists)[layout.edge_list] > 0
        rest = mean_by_list(lose, layout, torch.where(left_out, ~kept, True))[layout.edge_list]
        above, below = win - lose, lose - rest
        factor = dual_margin_factor(above, below, self.gamma) if self.dynamic_beta else torch.ones_like(lose)
        return Selection(kept, factor, above, below)

    def report(self, seen: Seen) -> Mapping[str, Tensor]:
        """``kept``: share of the edges; ``violation``: share of the kept ones with a loser at or above its winner;
        ``factor`` on beta, ``above`` and ``below``: means over the kept ones."""
        if seen.selection is None:
            return {}
        kept, factor, above, below = seen.selection
        return {
            "kept": kept.to(factor),
            "violation": (above[kept] <= 0).to(factor),
            "factor": factor[kept],
            "above": above[kept],
            "below": below[kept],
        }


def dual_margin_factor(above: Tensor, below: Tensor, gamma: float) -> Tensor:
    """[K] 1 + 1/2 tanh((above - below - gamma) / (|above| + |below|)); the limit where both are 0."""
    lead, spread = above - below - gamma, above.abs() + below.abs()
    ratio = torch.where(spread > 0, lead / torch.where(spread > 0, spread, 1.0), torch.inf * lead.sign())
    return 1 + 0.5 * torch.tanh(torch.where(lead == 0, 0.0, ratio))


def in_top_cluster(values: Tensor, layout: Layout, clusters: int) -> Tensor:
    """[K] whether an edge's value is in the highest cluster of its list's, by exact one-dimensional k-means.

    Clusters in one dimension are intervals, so the best ones are found by dynamic programming over the sorted values,
    O(clusters K^2) in a list of K. Ties with the cluster's lowest value are in it.
    """
    size, device = layout.edges, values.device
    if not size:
        return torch.zeros(0, dtype=torch.bool, device=device)
    # One row a list, highest first, padded behind; as the distance below the highest, for the digits.
    order = values.argsort(descending=True, stable=True)
    order = order[layout.edge_list[order].argsort(stable=True)]
    counts = torch.bincount(layout.edge_list, minlength=layout.lists)
    row = layout.edge_list[order]
    column = torch.arange(size, device=device) - (counts.cumsum(0) - counts)[row]
    table = values.new_zeros(layout.lists, int(counts.max()), dtype=torch.float64)
    table[row, column] = values[order].double()
    table = torch.where(torch.arange(table.shape[1], device=device) < counts[:, None], table[:, :1] - table, 0.0)
    end = _first_cluster(table, counts, clusters)
    lowest = table.gather(1, (end - 1).clamp(min=0)[:, None])[:, 0]
    found = torch.empty(size, dtype=torch.bool, device=device)
    found[order] = table[row, column] <= lowest[row]
    return found


def _first_cluster(table: Tensor, counts: Tensor, clusters: int) -> Tensor:
    """[C] size of the first of the best ``clusters`` intervals of each sorted row [C, N], of which ``counts`` are used."""
    rows, width = table.shape
    zero = table.new_zeros(rows, 1)
    first, second = (torch.cat([zero, x.cumsum(1)], 1) for x in (table, table.square()))
    place = torch.arange(width + 1, device=table.device)
    number = (place[None, :] - place[:, None]).clamp(min=1)
    total = first[:, None, :] - first[:, :, None]
    cost = second[:, None, :] - second[:, :, None] - total.square() / number  # [C, from, to] of one interval
    allowed = (place[:, None] < place[None, :]) & (place[None, None, :] <= counts[:, None, None])
    cost = torch.where(allowed, cost.clamp(min=0), torch.inf)
    # rest[:, i]: cost of the values from i on in the clusters after the first.
    rest = cost.gather(2, counts[:, None, None].expand(-1, width + 1, 1))[:, :, 0]
    for _ in range(clusters - 2):
        rest = (cost + rest[:, None, :]).amin(2)
    end = (cost[:, 0, :] + rest).argmin(1)
    return torch.where(counts > clusters, end, counts.clamp(max=1))
