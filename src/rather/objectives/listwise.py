"""Pools: from the edges of one comparison to one margin, for losses that see a list as a whole.

A pool may be given the edges that take part (``kept`` [K], see ``selection``); the others are as if they were not there.
"""

from __future__ import annotations

from torch import Tensor, nn

from rather.objectives.scores import Layout, segment_logsumexp, segment_sum


class SoftestMargin(nn.Module):
    """z = -log sum_j exp(-z_j): the soft minimum over a list (S-DPO, arXiv 2406.09215). One edge: z = z_1."""

    def forward(self, z: Tensor, layout: Layout, kept: Tensor | None = None) -> Tensor:
        """Margins [K] to list margins [C]; 0 for a comparison without edges."""
        z, index = _taking_part(z, layout, kept)
        pooled = -segment_logsumexp(-z, index, layout.lists)
        empty = segment_sum(z.new_ones(z.shape), index, layout.lists) == 0
        return pooled.masked_fill(empty, 0.0)


class MeanMargin(nn.Module):
    """z = mean_j z_j over a list (DMPO, arXiv 2406.14868). One edge: z = z_1."""

    def forward(self, z: Tensor, layout: Layout, kept: Tensor | None = None) -> Tensor:
        return mean_by_list(z, layout, kept)


class SumMargin(nn.Module):
    """z = sum_j z_j over a list (MPPO, arXiv 2412.15244, as released). One edge: z = z_1."""

    def forward(self, z: Tensor, layout: Layout, kept: Tensor | None = None) -> Tensor:
        return segment_sum(*_taking_part(z, layout, kept), layout.lists)


def mean_by_list(values: Tensor, layout: Layout, kept: Tensor | None = None) -> Tensor:
    """[C] means of edge values [K] over each comparison; 0 for one without edges."""
    values, index = _taking_part(values, layout, kept)
    count = segment_sum(values.new_ones(values.shape), index, layout.lists)
    return segment_sum(values, index, layout.lists) / count.clamp(min=1)


def _taking_part(values: Tensor, layout: Layout, kept: Tensor | None) -> tuple[Tensor, Tensor]:
    """Values of the edges that take part, and the comparison of each."""
    if kept is None:
        return values, layout.edge_list
    return values[kept], layout.edge_list[kept]
