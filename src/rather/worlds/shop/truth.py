"""What is true in the shop: users and items with latent tastes, and which of twenty candidates a user takes.

300 items v and 3000 users u have 16 standard normal features; the utility of an item is 3 u.v / 4 plus noise of standard
deviation 0.5. Each user sees 20 different candidates and takes the one of highest utility. Half of the users are for
training, the others for evaluation. A recommender sees the first 12 features of a user and all features of the items.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

ITEMS, USERS, FEATURES, SEEN, CANDIDATES = 300, 3000, 16, 12, 20
TRAINING_USERS = USERS // 2


@dataclass(frozen=True)
class Shop:
    """Attributes:
    users: [3000, 16] tastes; ``users[:, :12]`` is what a recommender sees.
    items: [300, 16] features.
    candidates: [3000, 20] items; the first of each row is the one that the user takes.
    """

    users: NDArray[np.float64]
    items: NDArray[np.float64]
    candidates: NDArray[np.int64]


@lru_cache(maxsize=4)
def open_shop(seed: int) -> Shop:
    """The shop of this seed; arrays are read-only."""
    random = np.random.Generator(np.random.PCG64(seed))
    items = random.standard_normal((ITEMS, FEATURES))
    users = random.standard_normal((USERS, FEATURES))
    offered = random.permuted(np.broadcast_to(np.arange(ITEMS), (USERS, ITEMS)), axis=1)[:, :CANDIDATES]
    utility = 3 / 4 * np.einsum("uf,ucf->uc", users, items[offered]) + 0.5 * random.standard_normal(offered.shape)
    best = utility.argmax(axis=1)
    rows = np.arange(USERS)
    candidates = offered.copy()
    candidates[rows, best], candidates[:, 0] = offered[:, 0], offered[rows, best]
    for array in (users, items, candidates):
        array.setflags(write=False)
    return Shop(users, items, candidates)


def taken_ranks(shop: Shop, users: NDArray[np.int64], scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """[N] rank (1 is best) of the item that each user takes among the candidates; rank 1 is a hit (HR@1).

    Args:
        users: [N] indices.
        scores: [N, 300] of all items, in the order of the catalogue. Ties count against the taken item.
    """
    offered = np.take_along_axis(scores, shop.candidates[users], axis=1)
    return 1 + (~(offered[:, 1:] < offered[:, :1])).sum(axis=1)
