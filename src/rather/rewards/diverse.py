"""Responses that differ: farthest-point selection by edit distance (arXiv 2502.14272)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def levenshtein(one: str, other: str) -> int:
    """Fewest insertions, deletions and substitutions of characters from one text to the other."""
    if len(one) < len(other):
        one, other = other, one
    target = np.frombuffer(other.encode("utf-32-le"), np.uint32)
    # A row of the table at a time; insertions run along it, which is a running minimum of row - index.
    index = np.arange(len(target) + 1)
    row = index.copy()
    for position, character in enumerate(np.frombuffer(one.encode("utf-32-le"), np.uint32), 1):
        best = np.minimum(row[1:] + 1, row[:-1] + (target != character))
        row = np.minimum.accumulate(np.concatenate([[position], best]) - index) + index
    return int(row[-1])


def farthest(texts: Sequence[str], keep: int) -> list[int]:
    """Indices of ``keep`` texts, in the order they were chosen: the first, then each time the text whose least distance
    to the chosen ones is largest (the first of equals)."""
    chosen = [0] if texts and keep > 0 else []
    nearest = np.full(len(texts), np.iinfo(np.int64).max)
    while 0 < len(chosen) < min(keep, len(texts)):
        last = texts[chosen[-1]]
        nearest = np.minimum(nearest, [levenshtein(last, text) for text in texts])
        nearest[chosen] = -1
        chosen.append(int(nearest.argmax()))
    return chosen
