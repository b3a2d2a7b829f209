"""Polynomial DPO: what its factor does to the slope, and where it stops being monotone or convex (arXiv 2604.24953)."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import rather

quick = settings(max_examples=80, deadline=None)
margin = st.floats(-30, 30)
alpha_ = st.floats(-3, 20)


def derivatives(z: float, alpha: float) -> tuple[float, float, float]:
    """Value, slope and curvature of the loss of a pair in its margin."""
    at, zero = torch.tensor([z], dtype=torch.float64, requires_grad=True), torch.zeros(1, dtype=torch.float64)
    loss = rather.loss("poly_dpo", at, zero, zero, zero, beta=1.0, alpha=alpha).loss
    (slope,) = torch.autograd.grad(loss, at, create_graph=True)
    (bend,) = torch.autograd.grad(slope.sum(), at)
    return loss.item(), slope.item(), bend.item()


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


@quick
@given(margin, alpha_)
def test_slope_and_curvature(z: float, alpha: float) -> None:
    p = sigmoid(z)
    _, slope, bend = derivatives(z, alpha)
    assert slope == pytest.approx(-(1 - p) * (1 + alpha * p), rel=1e-9, abs=1e-12)
    assert bend == pytest.approx(p * (1 - p) * (1 + alpha * (2 * p - 1)), rel=1e-9, abs=1e-12)


@quick
@given(alpha_)
def test_undecided_pairs(alpha: float) -> None:
    value, slope, _ = derivatives(0.0, alpha)
    assert value == pytest.approx(math.log(2) + alpha / 2)
    assert slope == pytest.approx(-0.5 * (1 + alpha / 2), abs=1e-12)


@quick
@given(st.floats(-20, -1.01))
def test_a_large_margin_is_pulled_back(alpha: float) -> None:
    rest = -math.log(-alpha - 1)
    assert derivatives(rest, alpha)[1] == pytest.approx(0.0, abs=1e-9)
    assert derivatives(rest - 0.1, alpha)[1] < 0 < derivatives(rest + 0.1, alpha)[1]


@quick
@given(margin, st.floats(-1, 20))
def test_otherwise_the_loss_falls_and_is_positive(z: float, alpha: float) -> None:
    value, slope, _ = derivatives(z, alpha)
    assert slope < 0 <= value
    if alpha < 0:
        assert value <= derivatives(z, 0.0)[0]


@quick
@given(st.floats(1.01, 30), margin)
def test_where_the_push_is_strongest(alpha: float, z: float) -> None:
    p = (alpha - 1) / (2 * alpha)
    peak = -derivatives(math.log(p / (1 - p)), alpha)[1]
    assert peak == pytest.approx((1 + alpha) ** 2 / (4 * alpha))
    assert -derivatives(z, alpha)[1] <= peak + 1e-12


@quick
@given(margin, st.floats(-1, 1))
def test_convex_for_small_alpha(z: float, alpha: float) -> None:
    assert derivatives(z, alpha)[2] >= -1e-15


@pytest.mark.parametrize("alpha", [-1.5, 1.5, 8.0])
def test_not_convex_for_others(alpha: float) -> None:
    assert min(derivatives(z, alpha)[2] for z in (-4.0, 4.0)) < 0


def test_mean_of_a_batch() -> None:
    z, zero = torch.tensor([-4.0, -1, 0, 1, 4], dtype=torch.float64), torch.zeros(5, dtype=torch.float64)
    assert rather.loss("poly_dpo", z, zero, zero, zero, beta=1.0, alpha=8.0).loss.item() == pytest.approx(5.2711940823)


def test_far_margins_keep_their_digits() -> None:
    """1 - p is sigma(-z): not 0 where p rounds to 1."""
    assert derivatives(40.0, 8.0)[0] == pytest.approx(9 * math.exp(-40), rel=1e-12)


@quick
@given(margin, margin)
def test_without_alpha_it_is_dpo(z: float, level: float) -> None:
    logps = [torch.tensor([value], dtype=torch.float64) for value in (z + level, level, 0.0, 0.0)]
    found = [
        rather.loss(name, *logps, beta=0.7, **options).loss
        for name, options in (("dpo", {}), ("poly_dpo", {"alpha": 0.0}))
    ]
    assert found[0].item() == found[1].item()
