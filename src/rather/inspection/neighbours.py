"""How alone a point is among others: the distance to its k-th nearest neighbour."""

from __future__ import annotations

import numpy as np

_CHUNK = 1024  # rows of the distance matrix that are held at once


def neighbour_distance(points: np.ndarray, k: int = 5) -> np.ndarray:
    """[n] Euclidean distance of each point to its k-th nearest other one.

    Args:
        points: [n, d]; equal rows count as different points.
        k: at least 1. Where there are fewer others, the farthest one; 0 for a point that is alone.
    """
    count = len(points)
    k = min(k, count - 1)
    if k < 1:
        return np.zeros(count)
    points = np.asarray(points, np.float64)
    squares = (points**2).sum(1)
    found = np.empty(count)
    for start in range(0, count, _CHUNK):
        rows = slice(start, start + _CHUNK)
        distance = squares[rows, None] + squares[None, :] - 2 * points[rows] @ points.T
        index = np.arange(start, min(start + _CHUNK, count))
        distance[index - start, index] = np.inf
        nearest = np.argpartition(distance, k - 1, axis=1)[:, k - 1]
        # The expansion above loses digits for near neighbours: the chosen one's distance is taken again.
        found[rows] = np.linalg.norm(points[rows] - points[nearest], axis=1)
    return found
