"""Rows of the shop: what a user took, and k of the candidates that were left."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from rather.data.types import Comparison, Edge, Source
from rather.worlds.query import QueryOptions, read_options
from rather.worlds.shop.truth import CANDIDATES, TRAINING_USERS, open_shop


class ShopOptions(QueryOptions):
    k: int = Field(15, ge=1, le=CANDIDATES - 1, description="negatives of each positive")
    users: int = Field(TRAINING_USERS, ge=1, le=TRAINING_USERS, description="number of users, one row each")
    split: Literal["train", "eval"] = Field("train", description="train or eval; the two share no user")
    seed: int = Field(0, ge=0, description="of shop and negatives; the model's must be the same")


def load_query(values: dict[str, str], where: str) -> list[Comparison]:
    """The rows of ``world:shop?...``."""
    return load_rows(read_options(ShopOptions, values, where))


def load_rows(options: ShopOptions) -> list[Comparison]:
    """Comparisons of one user each: the item taken first, then ``k`` others; edges from the first to each other.

    The negatives of a smaller ``k`` are the first of those of a larger one.
    """
    shop = open_shop(options.seed)
    first = 0 if options.split == "train" else TRAINING_USERS
    rows: list[Comparison] = []
    for row, user in enumerate(range(first, first + options.users)):
        random = np.random.Generator(np.random.PCG64([options.seed, user]))
        left = random.permutation(shop.candidates[user, 1:])[: options.k]
        rows.append(
            Comparison(
                id=f"shop-{options.seed}-user-{user}",
                prompt=user,
                responses=(int(shop.candidates[user, 0]), *map(int, left)),
                edges=tuple(Edge(0, 1 + negative) for negative in range(options.k)),
                source=Source("world:shop", row + 1),
            )
        )
    return rows
