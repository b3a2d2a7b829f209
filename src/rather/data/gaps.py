"""From a rating of each response to the margin of each edge."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from rather.data.types import Comparison, Edge


def rating_range(comparisons: Iterable[Comparison]) -> tuple[float, float]:
    """Least and greatest rating; (0, 1) when nothing is rated."""
    rated = [score for comparison in comparisons for score in comparison.scores]
    return (min(rated), max(rated)) if rated else (0.0, 1.0)


def with_gaps(comparisons: Iterable[Comparison], scale: float = 1.0) -> list[Comparison]:
    """The comparisons with the margin of each edge set to ``scale`` times winner's minus loser's rating.

    An edge that comes with a margin or a probability keeps what it has. The gap is negative where the ratings contradict
    the order.
    """

    def rated(comparison: Comparison, edge: Edge) -> Edge:
        if edge.margin is not None or edge.probability is not None:
            return edge
        return replace(edge, margin=scale * (comparison.scores[edge.winner] - comparison.scores[edge.loser]))

    return [
        replace(one, edges=tuple(rated(one, edge) for edge in one.edges))
        if one.edges and len(one.scores) == len(one.responses)
        else one
        for one in comparisons
    ]
