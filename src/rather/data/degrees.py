"""Responses with ever more of their key content taken out, as auxiliary responses whose degree is to be told."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from rather.data.identity import digest
from rather.data.rake import degraded
from rather.data.types import Auxiliary, Comparison

Side = Literal["both", "chosen", "rejected"]


def with_degrees(
    comparison: Comparison,
    seed: int,
    *,
    levels: int,
    stops: Collection[str],
    apply_to: Side = "both",
    every_level: bool = False,
) -> Comparison:
    """The comparison with graded texts of its responses; labels are levels, from 0 (whole) to ``levels - 1``.

    One level of each response is drawn from the seed, the comparison's id and the response's number, or all are taken.
    Signs make the sum over a comparison 1/2 (loss of the chosen + loss of the rejected) for each of its edges: 1/2 for
    each end of an edge, over the number of levels taken. A response that cannot be graded has none.
    """
    found: list[Auxiliary] = []
    for index, response in enumerate(comparison.responses):
        ends = [
            *([edge.winner for edge in comparison.edges] if apply_to != "rejected" else []),
            *([edge.loser for edge in comparison.edges] if apply_to != "chosen" else []),
        ].count(index)
        texts = degraded(response, levels, stops) if ends and isinstance(response, str) else None
        if texts is None:
            continue
        drawn = digest(["degree", seed, comparison.id, index]) % levels
        taken = range(levels) if every_level else [drawn]
        sign = ends / 2 / len(taken)
        found += [Auxiliary("degree", texts[level], group=index, sign=sign, label=level) for level in taken]
    return comparison.with_auxiliary([*comparison.auxiliary, *found]) if found else comparison
