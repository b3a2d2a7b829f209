"""The implicit reward as a judge, and what SAIL (arXiv 2602.05380) makes of it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import rather
from rather.data.types import Comparison
from rather.errors import UserError
from rather.objectives.scores import Layout, Scores
from rather.policies.base import Batch
from rather.policies.points import PointDenoiser, PointsPolicy
from rather.rewards.implicit import Ends, ImplicitReward, best_and_worst, replayed

JUDGE = [[0.50, 0.40, 0.30], [0.45, 0.42, 0.31], [0.60, 0.35, 0.33], [0.48, 0.41, 0.29]]
REFERENCE = [[0.52, 0.41, 0.30], [0.44, 0.40, 0.33], [0.55, 0.36, 0.35], [0.50, 0.44, 0.30]]


class Given:
    """A policy whose errors are written down: the network is the table [response][draw], a draw is its number."""

    kind, provides = "diffusion", frozenset()

    def encode(self, comparisons: Any) -> Any:
        return list(comparisons)

    def collate(self, encoded: Any) -> Batch:
        return Batch(Layout.of(encoded, [1] * sum(len(one.responses) for one in encoded)), {}, ())

    def draw(self, batch: Batch, seed: int) -> int:
        return seed

    def score(self, network: Any, batch: Batch, draw: int) -> Scores:
        errors = torch.tensor([row[draw] for row in network.table], dtype=torch.float64)
        return Scores(-errors / 2, torch.arange(len(errors)))


class Table(nn.Module):
    def __init__(self, table: list[list[float]]) -> None:
        super().__init__()
        self.table = table


def judge(beta: float) -> ImplicitReward:
    given_policy: Any = Given()
    return ImplicitReward(given_policy, Table(JUDGE), Table(REFERENCE), beta=beta, draws=3)


def test_values() -> None:
    found = judge(5000.0).score(0, ("a", "b", "c", "d"))
    assert found.tolist() == pytest.approx([25, -8.3333333333, -16.6666666667, 50])
    assert best_and_worst(found) == Ends(3, 2)
    found = judge(200.0).score(0, ("a", "b", "c", "d"))
    assert found.tolist() == pytest.approx([1, -0.3333333333, -0.6666666667, 2])
    assert judge(200.0).probability(found[3] - found[2]) == pytest.approx(0.93503083087, abs=1e-10)
    assert judge(200.0).probability(found[0] - found[1]) == pytest.approx(0.79139147267, abs=1e-10)


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ((0.1000, 0.1002, 0.2000, 0.1999), 0.38687100611),
        ((0.1, 0.1, 0.2, 0.2), 0.69314718056),
        ((0.1004, 0.1000, 0.1996, 0.2000), 2.12692801104),
    ],
)
def test_the_loss_that_it_trains_with(errors: tuple[float, ...], expected: float) -> None:
    e_w, ref_w, e_l, ref_l = (torch.tensor([-e / 2], dtype=torch.float64) for e in errors)
    e_w.requires_grad_(), e_l.requires_grad_()
    ones = torch.ones(1, dtype=torch.long)
    lengths = {"chosen_lengths": ones, "rejected_lengths": ones}
    out = rather.loss("diffusion_dpo", e_w, e_l, ref_w, ref_l, **lengths, beta=5000.0)
    assert out.loss.item() == pytest.approx(expected, abs=1e-10)
    win, lose = torch.autograd.grad(out.loss, (e_w, e_l))
    slope = 0.5 * 5000 / (1 + math.exp(out.margins.item()))  # on the error, of which the score is minus a half
    assert -0.5 * win.item() == pytest.approx(slope) and -0.5 * lose.item() == pytest.approx(-slope)


@pytest.mark.parametrize(
    ("start", "alpha", "expected"),
    [
        (0.5, 1.0, [0.5, 1, 2, 4, 8]),
        (math.log(0.7 / 0.3), 0.25, [0.84729786, 1.69459572, 2.72094181, 3.87122578, 5.07896156]),
        (math.log(0.7 / 0.3), 0.0, [0.84729786, 1.69459572, 2.54189336, 3.38919144]),
    ],
)
def test_what_self_labels_do_to_a_population(start: float, alpha: float, expected: list[float]) -> None:
    """Two outcomes, soft self-labels, exact fits: the margin of the last round is amplified whatever its sign.

    The fit of a round is the library's own loss, minimised: its minimum is the logit of the label's mixture.
    """
    margins = [start]
    for _ in expected[1:]:
        share = alpha / (1 + math.exp(-margins[-1])) + (1 - alpha) * 0.7
        margins.append(margins[-1] + fitted(share))
    assert margins == pytest.approx(expected, abs=1e-5)


def fitted(share: float) -> float:
    """The margin over its reference at which DPO rests, when this share of the labels says so."""
    z, zero = torch.zeros(1, dtype=torch.float64, requires_grad=True), torch.zeros(1, dtype=torch.float64)
    optimizer = torch.optim.LBFGS(
        [z], max_iter=100, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def step() -> Tensor:
        optimizer.zero_grad()
        right, wrong = (rather.loss("dpo", *ends, zero, zero, beta=1.0).loss for ends in ((z, zero), (zero, z)))
        loss = share * right + (1 - share) * wrong
        loss.backward()
        return loss

    optimizer.step(step)
    return z.item()


@pytest.mark.parametrize(("batch", "share", "expected"), [(128, 0.25, (32, 96)), (10, 0.25, (3, 7)), (7, 0.5, (4, 3))])
def test_composition_of_a_batch(batch: int, share: float, expected: tuple[int, int]) -> None:
    assert replayed(batch, share) == expected


@given(st.integers(1, 500), st.floats(0, 1))
def test_a_batch_is_whole(batch: int, share: float) -> None:
    new, old = replayed(batch, share)
    assert new + old == batch and new >= 0 <= old and abs(new - share * batch) <= 0.5
    assert replayed(batch, 0.0) == (0, batch) and replayed(batch, 1.0) == (batch, 0)


def test_ties() -> None:
    assert best_and_worst(np.array([1.0, 2.0, 2.0, 1.0])) == Ends(1, 0)
    assert best_and_worst(np.zeros(3)) is None


def networks() -> tuple[PointsPolicy, PointDenoiser]:
    torch.manual_seed(0)
    return PointsPolicy(PointDenoiser()), PointDenoiser()


POINTS = tuple((0.3 * k, 0.1 - 0.2 * k) for k in range(5))


@settings(max_examples=10, deadline=None)
@given(st.floats(0.1, 5000), st.integers(0, 100))
def test_the_order_does_not_depend_on_beta(beta: float, seed: int) -> None:
    policy, reference = networks()
    one, other = (
        ImplicitReward(policy, policy.network, reference, beta=b, seed=seed).score(2, POINTS) for b in (1.0, beta)
    )
    assert other == pytest.approx(beta * one)


def test_a_model_against_itself_says_nothing() -> None:
    policy, _ = networks()
    found = ImplicitReward(policy, policy.network, policy.network).score(1, POINTS)
    assert not found.any() and best_and_worst(found) is None


def test_equal_responses_are_judged_alike_and_comparisons_apart() -> None:
    """All responses to a prompt see the same draws; what stands beside a comparison does not matter."""
    policy, reference = networks()
    own = ImplicitReward(policy, policy.network, reference, draws=4)
    rows = [Comparison("one", 1, (POINTS[0], POINTS[1], POINTS[0])), Comparison("other", 3, POINTS)]
    together, alone = own.rewards(rows), own.rewards(rows[1:])
    assert together[0][0] == together[0][2] != together[0][1]
    assert together[1] == pytest.approx(alone[0], rel=1e-5)
    assert own.compare(1, POINTS[0], POINTS[1]) + own.compare(1, POINTS[1], POINTS[0]) == pytest.approx(1)


def test_what_cannot_be_read_is_refused() -> None:
    policy, reference = networks()
    with pytest.raises(UserError, match="cannot be judged"):
        ImplicitReward(policy, policy.network, reference).score("words", ("a", "b"))
