"""Pools: from the edges of one comparison to one margin, for losses that see a list as a whole."""

from __future__ import annotations

from torch import Tensor, nn

from rather.objectives.scores import Layout, segment_logsumexp, segment_sum


class SoftestMargin(nn.Module):
    """z = -log sum_j exp(-z_j): the soft minimum over a list (S-DPO, arXiv 2406.09215). One edge: z = z_1."""

    def forward(self, z: Tensor, layout: Layout) -> Tensor:
        """Margins [K] to list margins [C]; 0 for a comparison without edges."""
        pooled = -segment_logsumexp(-z, layout.edge_list, layout.lists)
        empty = segment_sum(z.new_ones(z.shape), layout.edge_list, layout.lists) == 0
        return pooled.masked_fill(empty, 0.0)


class MeanMargin(nn.Module):
    """z = mean_j z_j over a list (DMPO, arXiv 2406.14868). One edge: z = z_1."""

    def forward(self, z: Tensor, layout: Layout) -> Tensor:
        return mean_by_list(z, layout)


def mean_by_list(values: Tensor, layout: Layout) -> Tensor:
    """[C] means of edge values [K] over each comparison; 0 for one without edges."""
    count = segment_sum(values.new_ones(values.shape), layout.edge_list, layout.lists)
    return segment_sum(values, layout.edge_list, layout.lists) / count.clamp(min=1)
