"""Where among the candidates a recommender puts what was taken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rather.worlds.shop.truth import CANDIDATES


def rank_bars(ranks: NDArray[np.int64], path: Path) -> None:
    """Write a PNG: share of users by the rank (1 is best) of the item they took; the first bar is HR@1."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 3.4), layout="constrained")
    axes = figure.subplots()
    places = np.arange(1, CANDIDATES + 1)
    shares = np.array([(ranks == place).mean() for place in places])
    axes.bar(places, shares, color=["#d55e00", *["#0072b2"] * (CANDIDATES - 1)])
    axes.axhline(1 / CANDIDATES, color="0.4", linestyle="--", linewidth=1)
    axes.annotate("chance", (CANDIDATES + 0.5, 1 / CANDIDATES), ha="right", va="bottom", fontsize="small", color="0.3")
    axes.set(ylim=(0, 1), xlim=(0.3, CANDIDATES + 0.7), xticks=[1, 5, 10, 15, 20])
    axes.set(xlabel="rank of the taken item among the candidates", ylabel="share of users")
    axes.set_title(f"HR@1 {shares[0]:.1%} of {len(ranks)} users")
    figure.savefig(path, dpi=110, format="png")
