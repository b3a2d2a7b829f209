"""Links and label models: tails, exchange, and what is computed where float32 runs out."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from rather.objectives import links
from rather.objectives.labels import FlipCorrected, Hard, Moving, Smoothed, Soft
from rather.objectives.links import Link, Pair

EVERY: list[Link] = [
    links.Logistic(),
    links.Hinge(),
    links.Square(0.1),
    links.Sigmoid(),
    links.Polynomial(8.0),
    links.Polynomial(-2.0),
    links.LogRatioModulated(0.05),
    links.LogRatioModulated(1.0),
    links.ReverseKL(1e-3),
    links.NoiseContrastive(),
    links.SelfPlaySquare(1e-3),
    links.AnchoredZero(),
    links.AnchoredDown(),
]


def name_of(link: object) -> str:
    return type(link).__name__


@pytest.mark.parametrize("link", EVERY, ids=name_of)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("labels", [Hard(), Smoothed(0.1), FlipCorrected(0.2), Soft(), Moving(0.1)], ids=name_of)
def test_finite_for_rewards_up_to_ten_thousand(link: Link, dtype: torch.dtype, labels: Hard) -> None:
    values = torch.tensor([-1e4, -1e3, -88.0, -17.0, -1e-3, 0.0, 1e-3, 17.0, 88.0, 1e3, 1e4])
    win, lose = (side.flatten().to(dtype).requires_grad_() for side in torch.meshgrid(values, values, indexing="ij"))
    key = torch.arange(win.numel())
    loss = labels(link, Pair(win, lose, torch.zeros_like(win)), torch.full_like(win, 0.75), key)
    assert torch.isfinite(loss).all()
    for gradient in torch.autograd.grad(loss.float().sum(), (win, lose), allow_unused=True):
        assert gradient is None or torch.isfinite(gradient).all()


@pytest.mark.parametrize("link", EVERY, ids=name_of)
def test_single_precision_keeps_its_digits(link: Link) -> None:
    z = torch.linspace(-60, 60, 601, dtype=torch.float64)

    def value(dtype: torch.dtype) -> Tensor:
        return link(Pair((z / 2).to(dtype), (-z / 2).to(dtype), torch.zeros_like(z).to(dtype))).double()

    torch.testing.assert_close(value(torch.float32), value(torch.float64), rtol=2e-5, atol=1e-6)


def test_small_probabilities_do_not_round_to_zero() -> None:
    """1 - sigma(z) at z = 60 is 8.8e-27, not 0: the gradient on a settled pair still has its direction."""
    z = torch.tensor([60.0])
    assert links.Sigmoid().curve(z).item() == pytest.approx(math.exp(-60), rel=1e-4)
    assert links.Polynomial(8.0).curve(z).item() == pytest.approx(9 * math.exp(-60), rel=1e-4)


def test_tail_of_the_discovered_loss_above_temperature_one() -> None:
    """What the option's upper bound keeps out."""
    z = torch.tensor([-2000.0], dtype=torch.float64)
    assert links.LogRatioModulated(1.0).curve(z).isfinite()
    assert links.LogRatioModulated(4.0).curve(z).isinf()


def test_exchange() -> None:
    pair = Pair(torch.tensor([2.0]), torch.tensor([0.5]), torch.tensor([0.25]))
    assert pair.margin.item() == 1.25
    assert pair.swap().margin.item() == -1.25
    assert pair.swap().swap() == pair


def test_soft_labels_fall_back_to_hard_where_unknown() -> None:
    pair = Pair(torch.tensor([1.0, 1.0]), torch.zeros(2), torch.zeros(2))
    soft = Soft()(links.Logistic(), pair, torch.tensor([float("nan"), 0.3]), torch.arange(2))
    win, lose = math.log1p(math.exp(-1)), math.log1p(math.exp(1))
    assert soft.tolist() == pytest.approx([win, 0.3 * win + 0.7 * lose])
