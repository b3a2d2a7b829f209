"""The flip rate is found where it is known, and the interval is honest where it cannot be."""

from __future__ import annotations

import math

import pytest
import torch

import rather
from rather.data.types import Comparison, Edge
from rather.errors import UserError
from rather.inspection.flip_rate import MOST, estimate_flip_rate


def noisy_margins(count: int, rate: float, spread: float = 3.0, scale: float = 1.0, seed: int = 0) -> torch.Tensor:
    """Margins in the labelled order: Bradley-Terry on ``spread * normal``, flipped at ``rate``, seen as z / scale."""
    random = torch.Generator().manual_seed(seed)
    z = spread * torch.randn(count, generator=random, dtype=torch.float64)
    right = torch.rand(count, generator=random, dtype=torch.float64) < torch.sigmoid(z)
    flipped = torch.rand(count, generator=random, dtype=torch.float64) < rate
    return torch.where(right ^ flipped, z, -z) / scale


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.25, 0.4])
def test_rate_and_scale_are_found(rate: float) -> None:
    found = estimate_flip_rate(margins=noisy_margins(20_000, rate, scale=4.0))
    assert found.rate == pytest.approx(rate, abs=0.02)
    assert found.low <= rate <= found.high or rate == 0.0
    assert found.high - found.low < 0.06
    assert found.scale == pytest.approx(4.0, rel=0.35)
    assert found.count == 20_000


def test_intervals_cover() -> None:
    rate = 0.2
    inside = 0
    for seed in range(30):
        found = estimate_flip_rate(margins=noisy_margins(1_000, rate, seed=seed))
        inside += found.low <= rate <= found.high
    assert inside >= 25  # 28.5 expected; fewer than 25 has probability 0.3% at 95% coverage


def test_two_sizes_of_margins_are_solved_exactly() -> None:
    """Two parameters and two shares: 80% right far out says e = 0.2, the share right at z = 1 then says s = 1."""
    near = round(10_000 * (0.6 / (1 + math.exp(-1)) + 0.2))
    margins = [1000.0] * 8_000 + [-1000.0] * 2_000 + [1.0] * near + [-1.0] * (10_000 - near)
    found = estimate_flip_rate(margins=margins)
    assert found.rate == pytest.approx(0.2, abs=2e-4)
    assert found.scale == pytest.approx(1.0, abs=2e-3)


def test_one_size_of_margins_gives_an_upper_bound_only() -> None:
    """80% right at one size: any rate up to about 0.2 explains it, with some scale."""
    found = estimate_flip_rate(margins=[3.0] * 80 + [-3.0] * 20)
    assert found.low == 0.0

    def deviance(rate: float) -> float:
        return 2 * (80 * math.log(0.8 / (1 - rate)) + 20 * math.log(0.2 / rate))

    assert deviance(found.high) == pytest.approx(3.84, abs=0.05)


def test_the_unit_of_the_margins_does_not_matter() -> None:
    margins = noisy_margins(2_000, 0.2)
    one, other = estimate_flip_rate(margins=margins), estimate_flip_rate(margins=(1e-3 * margins).tolist())
    assert other.rate == pytest.approx(one.rate, abs=1e-6)
    assert one.scale is not None and other.scale == pytest.approx(1e3 * one.scale, rel=1e-6)


def test_margins_too_small_leave_everything_open() -> None:
    found = estimate_flip_rate(margins=noisy_margins(500, 0.2, spread=0.3))
    assert found.low == 0.0
    assert found.high > 0.4


@pytest.mark.parametrize("margins", [[0.0] * 10, [-1.0, -2.0, -3.0], [1e30, -1e30, 1e-30], [5.0, 5.0]])
def test_odd_margins_give_a_rate(margins: list[float]) -> None:
    found = estimate_flip_rate(margins=margins)
    assert 0 <= found.low <= found.rate <= found.high <= MOST


def pair(winner: str, loser: str, prompt: str = "p") -> Comparison:
    return Comparison(f"{prompt}{winner}{loser}", prompt, (winner, loser), (Edge(0, 1),))


def test_repeated_labels() -> None:
    agree = [pair("a", "b", f"{n}") for n in range(68) for _ in range(2)]
    differ = [each for n in range(68, 100) for each in (pair("a", "b", f"{n}"), pair("b", "a", f"{n}"))]
    alone = [pair("a", "b", "once"), pair("a", "a", "same"), pair("a", "a", "same")]
    found = estimate_flip_rate(comparisons=agree + differ + alone)
    assert found.rate == pytest.approx(0.2)  # 2 * 0.2 * 0.8 = 0.32
    assert found.count == 100 and found.scale is None
    assert found.low < 0.2 < found.high


def test_three_labels_of_a_pair_are_two_looks() -> None:
    found = estimate_flip_rate(comparisons=[pair("a", "b"), pair("b", "a"), pair("a", "b")])
    assert found.count == 2
    assert found.rate == MOST  # two of three pairs of labels disagree: more than any rate explains


def test_lists_count_edge_by_edge() -> None:
    ranking = Comparison("x", "p", ("a", "b", "c"), (Edge(0, 1), Edge(0, 2), Edge(1, 2)))
    found = estimate_flip_rate(comparisons=[ranking, pair("b", "a"), pair("b", "c"), pair("a", "c")])
    assert found.count == 3
    assert 2 * found.rate * (1 - found.rate) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "give margins or comparisons"),
        ({"margins": [1.0, 2.0], "comparisons": []}, "give margins or comparisons"),
        ({"margins": [1.0]}, "1 margins are too few"),
        ({"margins": [1.0, float("nan")]}, "1 margins are not finite"),
        ({"comparisons": [pair("a", "b")]}, "no pair of responses stands more than once"),
    ],
)
def test_mistakes_are_told(arguments: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        rather.estimate_flip_rate(**arguments)
