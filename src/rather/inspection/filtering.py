"""Preference data scored by FiFA (``rather.inspection.fifa``), in parts that are kept on disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np

from rather.data.identity import canonical, whole
from rather.data.parts import Parts
from rather.data.types import Comparison, Prompt
from rather.errors import UserError
from rather.inspection.fifa import Fifa, Terms
from rather.inspection.neighbours import neighbour_distance
from rather.policies.rendering import prompt_text
from rather.rewards.base import Judge

Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""(what, total) -> a progress bar that takes advances."""

Embed = Callable[[Sequence[str]], np.ndarray]
"""[n] texts to [n, d] points."""

_CHUNK = 64  # comparisons or prompts judged at once; the unit that is not repeated after an interruption


class Rater(Protocol):
    def rate(self, prompts: Sequence[Prompt]) -> list[float]:
        """[n] in [0, 1]."""
        ...


@dataclass(frozen=True)
class Scored:
    """What is known of the comparisons that have an order.

    Attributes:
        comparisons: n of them.
        unordered: how many have no order, and are left out.
        margin, quality, distance: [n] as measured.
        prompts: [n] number of each one's prompt.
        terms: the same, as they enter the score.
        score: [n].
    """

    comparisons: list[Comparison]
    unordered: int
    margin: np.ndarray
    quality: np.ndarray
    distance: np.ndarray
    prompts: list[int]
    terms: Terms
    score: np.ndarray


def score(
    comparisons: Sequence[Comparison],
    fifa: Fifa,
    *,
    parts: Parts,
    judge: Judge | None,
    rater: Rater | None = None,
    embed: Embed | None = None,
    k: int = 5,
    progress: Progress | None = None,
) -> Scored:
    """Score comparisons; what judges and raters say is kept in ``parts`` as it comes.

    Args:
        judge: the proxy reward; ``None``: the margins that the data has.
        rater: of prompts; ``None``: all are alike.
        embed: of prompts; ``None``: all are equally far.
        k: which neighbour the distance is taken to.

    Raises:
        UserError: no comparison has an order, or the data has no margins and there is no judge.
    """
    ordered = [one for one in comparisons if one.edges]
    if not ordered:
        raise UserError("no comparison has an order", where="DATA", fix="a filter by margin needs preferences")
    progress = progress or (lambda what, total: nullcontext(lambda _: None))
    numbers: dict[bytes, int] = {}
    prompts = [numbers.setdefault(canonical(one.prompt), len(numbers)) for one in ordered]
    unique = [ordered[index].prompt for index in _first(prompts)]
    margin = _margins(ordered, judge, parts, progress)
    quality = np.asarray(_ratings(unique, rater, parts, progress))[prompts] if rater else np.zeros(len(ordered))
    distance = np.zeros(len(ordered))
    if embed:
        with progress("embedding prompts", len(unique)) as advance:
            distance = neighbour_distance(embed([prompt_text(prompt) for prompt in unique]), k)[prompts]
            advance(len(unique))
    terms = fifa.terms(margin, quality, distance)
    unordered = len(comparisons) - len(ordered)
    return Scored(ordered, unordered, margin, quality, distance, prompts, terms, fifa.score(terms))


def _first(numbers: Sequence[int]) -> list[int]:
    """Index of the first of each number, by number."""
    found: dict[int, int] = {}
    for index, number in enumerate(numbers):
        found.setdefault(number, index)
    return [found[number] for number in sorted(found)]


def _margins(comparisons: Sequence[Comparison], judge: Judge | None, parts: Parts, progress: Progress) -> np.ndarray:
    """[n] mean over a comparison's edges of what the winner is ahead."""
    if judge is None:
        return np.array([_own_margin(one) for one in comparisons])
    found: list[float] = []
    with progress("judging", len(comparisons)) as advance:
        for start in range(0, len(comparisons), _CHUNK):
            chunk = comparisons[start : start + _CHUNK]
            given = [judge.name, [whole(one).hex() for one in chunk]]
            found += parts.get(f"margin-{start:08d}", given, partial(_judged, chunk, judge))
            advance(len(chunk))
    return np.array(found)


def _own_margin(comparison: Comparison) -> float:
    margins = [edge.margin for edge in comparison.edges if edge.margin is not None]
    if len(margins) < len(comparison.edges):
        fix = "name a --judge, or give the data a column `margin` or scores"
        raise UserError("has no margin", where=str(comparison.source or comparison.id), fix=fix)
    return float(np.mean(margins))


def _judged(chunk: Sequence[Comparison], judge: Judge) -> list[float]:
    found = []
    for one in chunk:
        table = judge.group(one.prompt, one.responses)
        found.append(float(np.mean([table[edge.winner, edge.loser] for edge in one.edges])))
    return found


def _ratings(prompts: Sequence[Any], rater: Rater, parts: Parts, progress: Progress) -> list[float]:
    """[n] one for each prompt."""
    found: list[float] = []
    with progress("rating prompts", len(prompts)) as advance:
        for start in range(0, len(prompts), _CHUNK):
            chunk = prompts[start : start + _CHUNK]
            given = [getattr(rater, "name", ""), [canonical(prompt).hex() for prompt in chunk]]
            found += parts.get(f"rating-{start:08d}", given, partial(rater.rate, chunk))
            advance(len(chunk))
    return found
