"""Matchings that exchange or flip the ends of an edge: SePPO (arXiv 2410.05255) and Diffusion-NPO (arXiv 2505.11245)."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import rather
from rather.methods.registry import get
from rather.objectives.scores import Layout, Scores

quick = settings(max_examples=60, deadline=None)
error = st.floats(0, 3)
mode_ = st.sampled_from(["sign", "indicator", "off"])
beta_ = st.floats(0.1, 20)

M_W, R_W = (0.20, 0.30, 0.10), (0.24, 0.25, 0.1001)
M_S, R_S = (0.50, 0.40, 0.30), (0.45, 0.42, 0.31)


def vector(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def at(method: str, m_w: Tensor, m_l: Tensor, r_w: Tensor, r_l: Tensor, **options: Any) -> rather.LossOutput:
    """The loss of pairs with these mean squared errors of policy and reference."""
    ones = torch.ones(len(m_w), dtype=torch.long)
    sides = (-m / 2 for m in (m_w, m_l, r_w, r_l))
    return rather.loss(method, *sides, chosen_lengths=ones, rejected_lengths=ones, **options)


def slopes(method: str, m_w: float, m_l: float, r_w: float, r_l: float, **options: Any) -> list[float]:
    win, lose = vector(m_w).requires_grad_(), vector(m_l).requires_grad_()
    out = at(method, win, lose, vector(r_w), vector(r_l), **options)
    return [gradient.item() for gradient in torch.autograd.grad(out.loss, (win, lose))]


@pytest.mark.parametrize(
    ("mode", "per_pair", "loss"),
    [
        ("sign", [0.3411538747, 0.8543552445, 0.7438718056], 0.6464603083),
        ("indicator", [0.3411538747, 0.9740769842, 0.7438718056], 0.6863675548),
        ("off", None, 0.7294039097),
    ],
)
def test_values_of_seppo(mode: str, per_pair: list[float] | None, loss: float) -> None:
    out = at("seppo", vector(*M_W), vector(*M_S), vector(*R_W), vector(*R_S), beta=20.0, mode=mode)
    assert out.loss.item() == pytest.approx(loss, abs=1e-10)
    if per_pair:
        assert out.per_pair.tolist() == pytest.approx(per_pair, abs=1e-10)


def test_a_tie_counts_as_ahead() -> None:
    out = at("seppo", vector(0.2), vector(0.4), vector(0.2), vector(0.5), beta=20.0)
    assert out.loss.item() == pytest.approx(1.3132616875, abs=1e-10)


@quick
@given(error, error, beta_, mode_)
def test_seppo_at_its_reference(win: float, sample: float, beta: float, mode: str) -> None:
    same = vector(win), vector(sample)
    assert at("seppo", *same, *same, beta=beta, mode=mode).loss.item() == pytest.approx(math.log(2))


@quick
@given(error, error, error, error, beta_, mode_)
def test_which_way_seppo_pushes(m_w: float, m_s: float, r_w: float, r_s: float, beta: float, mode: str) -> None:
    of_win, of_sample = slopes("seppo", m_w, m_s, r_w, r_s, beta=beta, mode=mode)
    assert of_win > 0
    ahead = -m_w / 2 + r_w / 2 >= 0
    if ahead or mode == "off":
        assert of_sample == pytest.approx(-of_win)
    else:
        assert of_sample == pytest.approx(of_win if mode == "sign" else 0.0)


@quick
@given(error, error, error, error, beta_)
def test_both_signs_together(m_w: float, m_s: float, r_w: float, r_s: float, beta: float) -> None:
    """The two logits add up to -beta A and differ by beta |R|; they are read off the losses' inverses."""
    errors = (vector(m_w), vector(m_s), vector(r_w), vector(r_s))
    minus = at("seppo", *errors, beta=beta, mode="sign") if m_w > r_w else None
    plus = at("seppo", *errors, beta=beta, mode="off")
    if minus is None:
        return
    logits = [-math.log(math.expm1(out.loss.item())) for out in (plus, minus)]
    assert sum(logits) == pytest.approx(-beta * (m_w - r_w), rel=1e-6, abs=1e-6)
    assert abs(logits[0] - logits[1]) == pytest.approx(beta * abs(m_s - r_s), rel=1e-6, abs=1e-6)


def test_the_sample_has_no_say_in_the_sign() -> None:
    for sample in (0.0, 1.0, 30.0):
        assert slopes("seppo", 0.3, sample, 0.2, 0.1, beta=0.1)[1] > 0
        assert slopes("seppo", 0.1, sample, 0.2, 0.1, beta=0.1)[1] < 0


def test_seppo_tells_how_many_it_flips() -> None:
    policy, reference = (Scores(vector(*side) / -2, torch.arange(6)) for side in (M_W + M_S, R_W + R_S))
    ones = torch.ones(3, dtype=torch.long)
    outcome = get("seppo").objective(beta=20.0)(policy, reference, Layout.of_pairs(ones, ones))
    assert outcome.logged["matching/flipped"].tolist() == [0, 1, 0]


def test_value_of_npo() -> None:
    errors = (vector(0.20), vector(0.22), vector(0.21), vector(0.21))
    out = at("diffusion_npo", *errors, beta=200.0)
    assert out.loss.item() == pytest.approx(2.1269280110, abs=1e-10)
    assert at("diffusion_dpo", *errors, beta=200.0).loss.item() == pytest.approx(0.1269280110, abs=1e-10)


@quick
@given(error, error, error, error, beta_)
def test_npo_is_dpo_of_the_exchanged_pair(m_w: float, m_l: float, r_w: float, r_l: float, beta: float) -> None:
    own, dpo = (at(name, *map(vector, (m_w, m_l, r_w, r_l)), beta=beta) for name in ("diffusion_npo", "diffusion_dpo"))
    turned = at("diffusion_dpo", *map(vector, (m_l, m_w, r_l, r_w)), beta=beta)
    assert own.loss.item() == pytest.approx(turned.loss.item())
    assert own.loss.item() - dpo.loss.item() == pytest.approx(dpo.margins.item(), abs=1e-9)


def test_a_label_model_sees_the_exchanged_edge() -> None:
    errors = (vector(0.20), vector(0.30), vector(0.21), vector(0.21))
    turned = (errors[1], errors[0], errors[3], errors[2])
    labels = {"labels": {"flip_rate": 0.2}, "beta": 20.0}
    own, other = at("diffusion_npo", *errors, **labels), at("diffusion_dpo", *turned, **labels)
    assert own.loss.item() == pytest.approx(other.loss.item())
