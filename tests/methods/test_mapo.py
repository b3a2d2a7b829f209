"""MaPO and DPO on denoising errors: published arithmetic, reductions, bounds."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import rather
from rather.errors import UserError
from rather.methods.registry import get
from rather.objectives.transforms import Bounded, bernoulli

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "vectors" / "mapo.json").read_text())
ROWS = {name: row for name, row in VECTORS.items() if isinstance(row, dict) and "method" in row}

quick = settings(max_examples=60, deadline=None)
error = st.floats(0.0, 30.0)
variant = st.sampled_from([{}, {"variant": "v2"}, {"variant": "v2", "power": 64.0}])


def vector(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def at(method: str, m_w: Tensor, m_l: Tensor, *reference: Tensor, **options: Any) -> rather.LossOutput:
    """The loss of pairs with these mean squared denoising errors; a response is one element."""
    ones = torch.ones(len(m_w), dtype=torch.long)
    lengths = {"chosen_lengths": ones, "rejected_lengths": ones}
    return rather.loss(method, *(-m / 2 for m in (m_w, m_l, *reference)), **lengths, **options)


def slopes(out: rather.LossOutput, *errors: Tensor) -> list[list[float]]:
    return [gradient.tolist() for gradient in torch.autograd.grad(out.loss, errors)]


@pytest.mark.parametrize("name", ROWS)
def test_values(name: str) -> None:
    row = ROWS[name]
    m_w, m_l, r_w, r_l = (vector(*VECTORS[key]) for key in ("m_w", "m_l", "r_w", "r_l"))
    m_w.requires_grad_(), m_l.requires_grad_()
    reference = (r_w, r_l) if "reference" in get(row["method"]).needs else ()
    out = at(row["method"], m_w, m_l, *reference, **row["options"])
    assert out.loss.item() == pytest.approx(row["loss"], abs=1e-8 if name == "dpo" else 1e-10)
    if "per_pair" in row:
        assert out.per_pair.tolist() == pytest.approx(row["per_pair"], abs=1e-8 if name == "dpo" else 1e-10)
    if "logit" in row:
        assert out.margins.tolist() == pytest.approx(row["logit"], abs=1e-8)
        found = slopes(out, m_w, m_l)
        assert found[0] == pytest.approx(row["grad_w"], abs=1e-8)
        assert found[1] == pytest.approx(row["grad_l"], abs=1e-8)


def test_values_of_a_tie() -> None:
    m_w, m_l = vector(0.3).requires_grad_(), vector(0.3).requires_grad_()
    out = at("mapo", m_w, m_l)
    assert out.loss.item() == pytest.approx(0.3693147181, abs=1e-10)
    assert slopes(out, m_w, m_l) == [[pytest.approx(12.8754683736)], [pytest.approx(-11.8754683736)]]


def test_bounded_errors_of_version_two() -> None:
    found = Bounded(power=8.0)(-vector(*VECTORS["m_w"], *VECTORS["m_l"]) / 2)
    expected = [0.4433796440, 0.8180487759, 0.1914243855, 0.4081474262, 0.8516894395, 0.1834239665]
    assert found.tolist() == pytest.approx(expected, abs=1e-10)


def test_phi() -> None:
    u = vector(*VECTORS["phi"]["at"]).requires_grad_()
    value = bernoulli(u)
    (slope,) = torch.autograd.grad(value.sum(), u)
    assert value.tolist() == pytest.approx(VECTORS["phi"]["value"], rel=1e-13)
    assert slope.tolist() == pytest.approx(VECTORS["phi"]["slope"], rel=1e-12)


@quick
@given(st.floats(-700, 700))
def test_phi_of_a_negative_number(u: float) -> None:
    assert bernoulli(vector(-u)).item() == pytest.approx(bernoulli(vector(u)).item() + u, rel=1e-12, abs=1e-12)


@quick
@given(st.floats(-8, 8))
def test_phi_has_the_slope_of_differences(u: float) -> None:
    assert torch.autograd.gradcheck(bernoulli, (vector(u).requires_grad_(),))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_phi_and_its_slope_are_finite_everywhere(dtype: torch.dtype) -> None:
    u = torch.tensor([-1e30, -1e4, -1e-9, 0.0, 1e-30, 9e-3, 1.1e-2, 90.0, 1e4, 1e30], dtype=dtype).requires_grad_()
    value = bernoulli(u)
    (slope,) = torch.autograd.grad(value.sum(), u)
    assert value.isfinite().all() and slope.isfinite().all()
    assert (slope <= 0).all() and slope.min() >= -1
    curvature = torch.autograd.functional.hessian(bernoulli, torch.zeros((), dtype=torch.float64))
    assert float(curvature) == pytest.approx(1 / 6)  # type: ignore[arg-type]


@quick
@given(error, error, st.floats(0.1, 20))
def test_without_the_margin_it_is_sft(win: float, lose: float, snr: float) -> None:
    found = at("mapo", vector(win), vector(lose), margin_weight=0.0, snr=snr).loss
    assert found.item() == pytest.approx(win)
    assert found.item() == pytest.approx(2 * at("sft", vector(win), vector(lose), per="responses").loss.item())


@quick
@given(error, error, variant)
def test_the_winners_error_falls_and_the_losers_does_not(win: float, lose: float, options: dict[str, Any]) -> None:
    m_w, m_l = vector(win).requires_grad_(), vector(lose).requires_grad_()
    [[of_win], [of_lose]] = slopes(at("mapo", m_w, m_l, **options), m_w, m_l)
    assert of_win > 0 >= of_lose


@quick
@given(error, error, st.floats(1, 2000), st.floats(0.1, 2))
def test_the_push_of_the_margin_is_bounded(win: float, lose: float, beta: float, snr: float) -> None:
    m_w, m_l = vector(win).requires_grad_(), vector(lose).requires_grad_()
    out = at("mapo", m_w, m_l, beta=beta, snr=snr, margin_weight=1.0, sft=0.0)
    assert all(abs(slope) <= beta * snr / 2 * (1 + 1e-12) for (slope,) in slopes(out, m_w, m_l))


@quick
@given(error, error, st.floats(1, 1024))
def test_version_two_never_saturates(win: float, lose: float, power: float) -> None:
    out = at("mapo", vector(win), vector(lose), variant="v2", power=power)
    assert math.log1p(math.exp(-1)) <= out.per_pair.item() <= math.log1p(math.e)
    assert out.loss.item() == pytest.approx(win, abs=math.log1p(math.e) / power + 1e-12)


@quick
@given(error, error, st.floats(0.01, 5))
def test_the_level_of_the_error_matters_to_it_and_not_to_dpo(win: float, lose: float, more: float) -> None:
    pair, moved = (vector(win), vector(lose)), (vector(win + more), vector(lose + more))
    zero = vector(0.0)
    plain = [at("diffusion_dpo", *each, zero, zero, beta=20.0).loss.item() for each in (pair, moved)]
    assert plain[0] == pytest.approx(plain[1])
    assert at("mapo", *moved).loss.item() != pytest.approx(at("mapo", *pair).loss.item(), rel=1e-6)


@quick
@given(error, error, error, error, st.floats(0.1, 20))
def test_dpo_on_errors(m_w: float, m_l: float, r_w: float, r_l: float, beta: float) -> None:
    """At the reference log 2 with slopes of beta / 4; exchanging the ends costs the logit."""
    win, lose, ref_win, ref_lose = (vector(value) for value in (m_w, m_l, r_w, r_l))
    own, swapped = (
        at("diffusion_dpo", *ends, beta=beta)
        for ends in ((win, lose, ref_win, ref_lose), (lose, win, ref_lose, ref_win))
    )
    assert own.loss.item() - swapped.loss.item() == pytest.approx(-own.margins.item(), abs=1e-9)
    win.requires_grad_(), lose.requires_grad_()
    start = at("diffusion_dpo", win, lose, win.detach(), lose.detach(), beta=beta)
    assert start.loss.item() == pytest.approx(math.log(2))
    assert slopes(start, win, lose) == [[pytest.approx(beta / 4)], [pytest.approx(-beta / 4)]]


def test_numbers_of_a_variant_can_be_changed_one_by_one() -> None:
    options = get("mapo").configure({"variant": "v2", "power": 32.0, "beta": 3.0})
    found = options.model_dump(include={"beta", "snr", "power", "margin_weight"})
    assert found == {"beta": 3.0, "snr": 1.0, "power": 32.0, "margin_weight": 1 / 32}
    assert get("mapo").configure({}).model_dump(include=set(found)) == {
        "beta": 1000.0,
        "snr": 0.5,
        "power": 1.0,
        "margin_weight": 0.1,
    }
    with pytest.raises(UserError, match="power"):
        get("mapo").configure({"variant": "v2", "power": 0.5})
