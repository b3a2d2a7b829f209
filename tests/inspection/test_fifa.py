"""FiFA's score: the vectors of its spec, its invariants, and a whole data set filtered."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rather.data.parts import Parts
from rather.data.types import Comparison, Edge, Prompt, Response
from rather.errors import UserError
from rather.inspection.fifa import Fifa, best
from rather.inspection.filtering import score
from rather.inspection.neighbours import neighbour_distance
from rather.rewards.base import Judge

WON, LOST = np.array([0.25, 0.40, 0.31, 0.90, 0.56, 0.10]), np.array([0.20, 0.10, 0.33, 0.10, 0.50, 0.45])
QUALITY = np.array([8, 6, 9, 2, 7, 9]) / 10
POINTS = np.array([[0, 0], [0, 1], [3, 4], [10, 0], [6, 8]], float)
PROMPTS = [0, 1, 2, 3, 1, 4]
DISTANCE = neighbour_distance(POINTS, 1)[PROMPTS]


def scored(fifa: Fifa) -> np.ndarray:
    return fifa.score(fifa.terms(WON - LOST, QUALITY, DISTANCE))


def test_distances_are_to_other_prompts() -> None:
    assert neighbour_distance(POINTS, 1) == pytest.approx([1, 1, 4.24264069, 8.06225775, 5])


@pytest.mark.parametrize(
    ("fifa", "expected", "top"),
    [
        (
            Fifa(1.0, 0.1, normalize="none"),
            [0.91931472, 0.96931472, 1.04568253, 1.22041183, 0.82931472, 0.72917595],
            [3, 2, 1],
        ),
        (
            Fifa(1.0, 0.1, "abs", "none"),
            [0.91931472, 0.96931472, 1.08568253, 1.22041183, 0.82931472, 1.42917595],
            [5, 3, 2],
        ),
        (Fifa(0.0, 0.0, normalize="none"), [0.05, 0.30, -0.02, 0.80, 0.06, -0.35], [3, 1, 4]),
        (Fifa(), [0.77639752, 0.85093168, 1.10585016, 1.5, 0.71366460, 0.86354510], [3, 2, 5]),
    ],
)
def test_vectors(fifa: Fifa, expected: list[float], top: list[int]) -> None:
    found = scored(fifa)
    assert found == pytest.approx(expected, abs=5e-9)
    assert best(found, 3) == top


def test_swapping_the_ends_turns_the_signed_margin_around_only() -> None:
    for margin, same in (("signed", False), ("abs", True)):
        fifa = Fifa(0.0, 0.0, margin, "none")  # type: ignore[arg-type]
        there, back = (fifa.terms(sign * (WON - LOST), QUALITY, DISTANCE).margin for sign in (1, -1))
        assert back == pytest.approx(there if same else -there)


def test_the_plain_logarithm_gives_equal_prompts_up() -> None:
    fifa = Fifa(entropy="log")
    found = fifa.score(fifa.terms(np.array([0.0, 1.0, 2.0]), np.ones(3), np.array([0.0, 1.0, 3.0])))
    assert found.tolist() == [-np.inf, 0.5, 1.5]
    unused = Fifa(gamma=0.0, entropy="log")
    assert np.isfinite(unused.score(unused.terms(np.array([0.0, 1.0]), np.ones(2), np.zeros(2)))).all()


NUMBERS = st.lists(st.floats(-10, 10), min_size=1, max_size=30)


@given(NUMBERS, st.integers(1, 30))
def test_what_is_kept_is_the_best_and_nested(values: list[float], keep: int) -> None:
    scores = np.array(values)
    kept, more = best(scores, keep), best(scores, keep + 1)
    assert more[: len(kept)] == kept
    left = set(range(len(values))) - set(kept)
    assert all(scores[a] >= scores[b] for a in kept for b in left)
    assert all(i < j for i, j in pairwise(kept) if scores[i] == scores[j])


@given(st.lists(st.tuples(st.floats(-5, 5), st.integers(0, 3)), min_size=1, max_size=20), st.integers(1, 3))
def test_no_prompt_has_more_than_its_share(rows: list[tuple[float, int]], most: int) -> None:
    kept = best(np.array([score for score, _ in rows]), len(rows), [prompt for _, prompt in rows], most)
    counts = [sum(rows[i][1] == prompt for i in kept) for prompt in range(4)]
    assert max(counts) <= most
    assert len(kept) == sum(min(most, sum(row[1] == prompt for row in rows)) for prompt in range(4))


@given(st.integers(1, 40), st.integers(1, 8), st.integers(0, 1000))
def test_distances_equal_the_sorted_ones(count: int, k: int, seed: int) -> None:
    points = np.random.default_rng(seed).normal(size=(count, 3))
    points[count // 2 :] = points[: count - count // 2]  # some coincide
    table = np.linalg.norm(points[:, None] - points[None], axis=-1)
    expected = [np.sort(np.delete(row, i))[min(k, count - 1) - 1] if count > 1 else 0.0 for i, row in enumerate(table)]
    assert neighbour_distance(points, k) == pytest.approx(expected, abs=1e-12)


class ByLength(Judge):
    name = "counted"

    def __init__(self) -> None:
        self.calls = 0

    def score(self, prompt: Prompt, responses: Sequence[Response]) -> np.ndarray:
        self.calls += 1
        return np.array([float(len(response)) for response in responses])


class Stops(ByLength):
    """Works for the first chunk only."""

    def score(self, prompt: Prompt, responses: Sequence[Response]) -> np.ndarray:
        if self.calls == 64:
            raise KeyboardInterrupt
        return super().score(prompt, responses)


def pairs(count: int) -> list[Comparison]:
    return [
        Comparison(f"c{i}", f"prompt {i % 5}", ("x" * (i % 7 + 1), "yy"), (Edge(0, 1, margin=float(i)),))
        for i in range(count)
    ]


def test_an_interrupted_filter_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "kept.jsonl"
    judge = Stops()
    with pytest.raises(KeyboardInterrupt):
        score(pairs(100), Fifa(), parts=Parts(out, {}), judge=judge)
    again = ByLength()
    found = score(pairs(100), Fifa(gamma=0.0), parts=Parts(out, {}), judge=again)
    assert (judge.calls, again.calls) == (64, 36)
    assert found.margin.tolist() == [i % 7 - 1 for i in range(100)]
    other = ByLength()
    score(pairs(100), Fifa(), parts=Parts(out, {"judge": "another"}), judge=other)
    assert other.calls == 100


def test_data_may_bring_its_own_margins(tmp_path: Path) -> None:
    data = [*pairs(3), Comparison("u", "p", ("a",))]
    found = score(data, Fifa(), parts=Parts(tmp_path / "kept.jsonl", {}), judge=None)
    assert (found.margin.tolist(), found.unordered, found.prompts) == ([0.0, 1.0, 2.0], 1, [0, 1, 2])
    bare = [Comparison("c", "p", ("a", "b"), (Edge(0, 1),))]
    with pytest.raises(UserError, match="has no margin"):
        score(bare, Fifa(), parts=Parts(tmp_path / "kept.jsonl", {}), judge=None)
    with pytest.raises(UserError, match="has an order"):
        score(data[-1:], Fifa(), parts=Parts(tmp_path / "kept.jsonl", {}), judge=None)
