"""FiFA, a filter of preference data (arXiv 2410.10166): few pairs, of clear margin, good prompts and varied ones.

    score = margin + alpha quality + gamma h,     h = log(1 + d_k)

margin is a proxy reward's difference between chosen and rejected, quality a rating of the prompt in [0, 1], d_k the distance
of the prompt's embedding to its k-th nearest other prompt in all the data, not in what is kept: so the objective over sets
becomes a sum, and the best K pairs are exactly its optimum.

Certain from the paper: the three terms, one objective, a score for each pair, the best kept. Our reading: the form of the
score, the sign of the margin (``signed``: pairs whose label the proxy contradicts go; ``abs`` keeps them when the
contradiction is strong), scaling each term to [0, 1] over the data, alpha = gamma = 1/2, and k = 5.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np


@dataclass(frozen=True)
class Terms:
    """The parts of a score, [n] each, as they enter it: scaled, and before alpha and gamma."""

    margin: np.ndarray
    quality: np.ndarray
    diversity: np.ndarray


@dataclass(frozen=True)
class Fifa:
    """How pairs are scored.

    Attributes:
        alpha, gamma: weights of quality and of diversity.
        margin: ``signed``, or ``abs``.
        normalize: ``minmax``: each term to [0, 1] over the data, a constant one to 0; ``none``: as given.
        entropy: of a distance: ``log1p``, or ``log``, the plain estimator, minus infinity where prompts coincide.
    """

    alpha: float = 0.5
    gamma: float = 0.5
    margin: Literal["signed", "abs"] = "signed"
    normalize: Literal["minmax", "none"] = "minmax"
    entropy: Literal["log1p", "log"] = "log1p"

    def terms(self, margin: np.ndarray, quality: np.ndarray, distance: np.ndarray) -> Terms:
        """
        Args:
            margin: [n] proxy reward of the chosen minus that of the rejected.
            quality: [n] rating of the prompt.
            distance: [n] of the prompt to its k-th nearest other one (``neighbour_distance`` over unique prompts).
        """
        with np.errstate(divide="ignore"):
            diversity = np.log1p(distance) if self.entropy == "log1p" else np.log(distance)
        found = (np.abs(margin) if self.margin == "abs" else margin, quality, diversity)
        scaled = [_unit(term) if self.normalize == "minmax" else np.asarray(term, np.float64) for term in found]
        return Terms(*scaled)

    def score(self, terms: Terms) -> np.ndarray:
        """[n]; a term of weight zero is left out, whatever it is."""
        found = terms.margin.copy()
        for weight, term in ((self.alpha, terms.quality), (self.gamma, terms.diversity)):
            if weight:
                found += weight * term
        return found


def _unit(term: np.ndarray) -> np.ndarray:
    term = np.asarray(term, np.float64)
    finite = term[np.isfinite(term)]
    if not len(finite) or finite.max() == finite.min():
        return np.where(np.isneginf(term), -np.inf, 0.0)
    return (term - finite.min()) / (finite.max() - finite.min())


def best(scores: np.ndarray, keep: int, prompts: Sequence[Hashable] = (), most: int | None = None) -> list[int]:
    """Indices of the ``keep`` highest scores, best first; of equals the earlier.

    Args:
        prompts: [n] the prompt of each pair, for ``most``.
        most: pairs of one prompt that are kept at most.
    """
    order = np.argsort(-np.asarray(scores), kind="stable").tolist()
    if most is None:
        return order[:keep]
    taken: Counter[Hashable] = Counter()
    found: list[int] = []
    for index in order:
        if len(found) == keep:
            break
        if taken[prompts[index]] < most:
            taken[prompts[index]] += 1
            found.append(index)
    return found
