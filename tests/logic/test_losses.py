"""Compiling and decompiling: published numbers, closed forms, and the identities between losses."""

# ruff: noqa: E741 - the letters of the paper
from __future__ import annotations

import itertools
import math
import re
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sympy import Symbol, sympify
from torch import Tensor

import rather
from logic.spec import CLOSED, FORMULAS, RHO, quick
from rather.errors import UserError
from rather.logic import Structure, decompile, read
from rather.logic.formulas import ALL, ROWS
from rather.logic.names import named
from rather.logic.parser import parse
from rather.logic.structure import P_L, P_W, PROBABILITIES, R_L, R_W

NAMES = list(CLOSED)
P = st.floats(1e-6, 1 - 1e-6)


def logs(*values: float) -> list[Tensor]:
    return [torch.tensor(value, dtype=torch.float64).log() for value in values]


def rho(name: str, *probabilities: float) -> float:
    return read(name).rho(*logs(*probabilities)).item()


def loss(name: str, chosen: float, rejected: float, *reference: float, **options: Any) -> float:
    """The library's loss of one pair of one-token responses with these probabilities."""
    values = [value[None] for value in logs(chosen, rejected, *reference)]
    lengths = {"chosen_lengths": torch.ones(1), "rejected_lengths": torch.ones(1)}
    return rather.loss(f"logic:{name}", *values, **lengths, **options).loss.item()


@pytest.mark.parametrize("name", NAMES)
def test_published_rho(name: str) -> None:
    assert rho(name, 0.3, 0.4) == pytest.approx(RHO[name], abs=1e-12)


def test_published_losses() -> None:
    values = {
        "ORPO": 0.9382696385929302,
        "CPO": 0.8472978603872036,
        "unCPO": 0.32850406697203605,
        "cCPO": 0.659245628884264,
        "CE": 1.203972804325936,
        "CEUNL": 1.7147984280919266,
    }
    for name, value in values.items():
        assert loss(name, 0.3, 0.4) == pytest.approx(value, abs=1e-12)


def test_published_rho_with_a_reference() -> None:
    assert rho("CPO; ref", 0.3, 0.4, 0.35, 0.2) == pytest.approx(-0.8472978603872036, abs=1e-12)
    assert rho("ORPO; ref", 0.3, 0.4, 0.35, 0.2) == pytest.approx(-1.001448540214462, abs=1e-12)


def test_published_rho_of_unlikely_responses() -> None:
    values = {
        "CPO": 3.912023005428146,
        "ORPO": 3.962315799482113,
        "qfUNL": 0.05029279405396711,
        "CE": -2.9444389791664403,
    }
    for name, value in values.items():
        assert rho(name, 0.05, 0.001) == pytest.approx(value, abs=1e-12)


def test_links() -> None:
    """f by hand on DPO's rho: IPO with beta = 0.1, and the hinge; gamma is a margin."""
    dpo = math.log(0.3 * 0.2 / (0.4 * 0.35))
    given = ("CPO; ref", 0.3, 0.4, 0.35, 0.2)
    assert loss(*given, link="square", beta=0.1) == pytest.approx((dpo - 5) ** 2, rel=1e-12)
    assert loss(*given, link="square", beta=0.1) == pytest.approx(34.190892, abs=1e-6)
    assert loss(*given, link="hinge", beta=2.0) == pytest.approx(1 - 2 * dpo, rel=1e-12)
    assert loss(*given, link="logistic", beta=2.0, gamma=0.5) == pytest.approx(math.log1p(math.exp(0.5 - 2 * dpo)))
    assert loss(*given, link="hinge", gamma=-1.0) == pytest.approx(-dpo, rel=1e-12)  # RRHF's max(0, -rho)


@pytest.mark.parametrize("name", NAMES)
@quick
@given(P, P)
def test_closed_forms(name: str, w: float, l: float) -> None:
    top, bottom = CLOSED[name](w, l)
    assert rho(name, w, l) == pytest.approx(math.log(top / bottom), rel=1e-8, abs=1e-9)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("reference", [False, True])
def test_compiling_what_was_decompiled_is_the_identity(name: str, reference: bool) -> None:
    """From the closed form's polynomials to a formula and back, with and without reference."""
    top, bottom = CLOSED[name](P_W, P_L)
    if reference:
        top, bottom = top * R_L, bottom * R_W
    structure = decompile(top, bottom)
    again = structure.polynomials()
    assert [(one - other).expand() for one, other in zip(again, (top, bottom), strict=True)] == [0, 0]
    assert structure.same_as(read(f"{name}; ref" if reference else name))
    generator = torch.Generator().manual_seed(1)
    p = 0.02 + 0.96 * torch.rand(4, 50, generator=generator, dtype=torch.float64)
    values = dict(zip(PROBABILITIES, p, strict=True))
    top, bottom = CLOSED[name](p[0], p[1])
    expected = (top / bottom).log() + ((values[R_L] / values[R_W]).log() if reference else 0)
    torch.testing.assert_close(structure.rho(*p.log()), expected, rtol=1e-12, atol=1e-12)


@quick
@given(st.integers(1, ALL), st.integers(1, ALL))
def test_any_pair_of_tables_survives_the_way_there_and_back(tick: int, cross: int) -> None:
    structure = Structure.of_tables(tick, cross)
    assert (structure.tick, structure.cross) == (tick, cross)
    assert decompile(*structure.polynomials()).same_as(structure)


def test_dpo_decompiles_to_the_papers_formula() -> None:
    structure = decompile(P_W * R_L, P_L * R_W)
    assert structure.core == parse("Ml & Refw -> Mw & Refl")
    showcase = decompile(P_W * R_L * (1 - P_L), P_L * R_W * (1 - P_W))
    assert showcase.core == parse("Ml & Refw -> Mw")
    assert showcase.same_as(read("ORPO; ref"))


@pytest.mark.parametrize(
    ("top", "words"),
    [
        (P_W + P_L, "p_w = 1, p_l = 1 is counted 2 times"),
        (2 * P_W, "counted 2 times"),
        (P_W - P_L, "counted -1 times"),
        (P_W**2, "not multilinear"),
        (1 / P_W, "not a polynomial"),
        (P_W / 2, "counted 1/2 times"),
        (P_W * Symbol("x"), "counted x times"),
    ],
)
def test_a_polynomial_that_is_no_sum_of_disjoint_products(top: Any, words: str) -> None:
    with pytest.raises(UserError, match="top") as caught:
        decompile(top, P_L)
    assert words in str(caught.value)


def test_a_sum_made_disjoint_decompiles() -> None:
    assert decompile(P_W + P_L - P_W * P_L, (1 - P_W) * (1 - P_L)).core == parse("Mw | Ml")


@pytest.mark.parametrize("name", NAMES)
def test_the_papers_formulas_are_these_losses(name: str) -> None:
    core, given_, also = FORMULAS[name]
    assert read(f"{core}; given={given_}; also={also}").same_as(named()[name])
    assert named()[name].core == parse(core)
    assert named()[name].given == parse(given_)
    assert named()[name].also == parse(also)


def test_equal_rows_are_equal_losses_whatever_the_syntax() -> None:
    one = "~(Ml & ~Mw); given=~(~Mw & ~Ml)"
    other = "Ml -> Mw; given=Mw | Ml"
    assert read(one).same_as(read(other))
    assert loss(one, 0.3, 0.4) == loss(other, 0.3, 0.4) == loss("cCPO", 0.3, 0.4)


@quick
@given(P, P)
def test_semantic_losses_with_beta_one(w: float, l: float) -> None:
    assert loss("CE", w, l) == pytest.approx(-math.log(w), rel=1e-9, abs=1e-9)
    assert loss("fUNL", w, l) == pytest.approx(-math.log1p(-l), rel=1e-9, abs=1e-9)
    assert loss("CEUNL", w, l) == pytest.approx(-math.log(w) - math.log1p(-l), rel=1e-9, abs=1e-9)


def test_classical_semantic_loss_of_every_formula() -> None:
    """Without conditioning, beta = 1 and the logistic link give -log WMC(P)."""
    p = dict(zip(("Mw", "Ml"), (0.3, 0.4), strict=True))
    for values in itertools.product((False, True), repeat=4):
        if not 0 < sum(values) < 4:
            continue
        rows = sum(1 << row for row in range(ROWS) if values[row & 3])
        count = sum(
            math.prod(q if row >> i & 1 else 1 - q for i, q in enumerate(p.values()))
            for row in range(4)
            if values[row]
        )
        structure = Structure(Structure.of_tables(rows, ALL ^ rows).core)
        value = torch.nn.functional.softplus(-structure.rho(*logs(0.3, 0.4))).item()
        assert value == pytest.approx(-math.log(count), abs=1e-12)


def exchanged(name: str) -> str:
    """The loss with the marks of TT and FF exchanged."""
    marks = named()[name].marks()
    wanted = {**marks, "TT": marks["FF"], "FF": marks["TT"]}
    return next(other for other, structure in named().items() if structure.marks() == wanted)


@pytest.mark.parametrize("name", NAMES)
@quick
@given(P, P)
def test_duality(name: str, w: float, l: float) -> None:
    """(p_w, p_l) -> (1 - p_l, 1 - p_w) is the loss with the marks of TT and FF exchanged."""
    assert rho(name, 1 - l, 1 - w) == pytest.approx(rho(exchanged(name), w, l), rel=1e-7, abs=1e-7)


@pytest.mark.parametrize("name", ["CPO", "ORPO", "qfUNL", "l5"])
@quick
@given(P, P)
def test_antisymmetry(name: str, w: float, l: float) -> None:
    assert rho(name, l, w) == pytest.approx(-rho(name, w, l), rel=1e-7, abs=1e-7)


def test_other_losses_are_not_antisymmetric() -> None:
    kept = {name for name in NAMES if abs(rho(name, 0.4, 0.3) + rho(name, 0.3, 0.4)) < 1e-9}
    assert kept == {"CPO", "ORPO", "qfUNL", "l5"}


def test_limits_of_long_sequences() -> None:
    """With p -> 0 the sixteen losses fall together into four."""
    w, l = -40.0, -43.0
    p_w, p_l = torch.tensor(w, dtype=torch.float64), torch.tensor(l, dtype=torch.float64)
    limit = {
        **dict.fromkeys(["CPO", "ORPO", "cCPO", "cUNL"], w - l),
        **dict.fromkeys(["CE", "l3", "sCE", "CEUNL"], w),
        **dict.fromkeys(["fUNL", "cfUNL", "unCPO", "l14"], -l),
        **dict.fromkeys(["qfUNL", "l20", "bCPO", "l5"], 0.0),
    }
    assert set(limit) == set(NAMES)
    for name, value in limit.items():
        assert read(name).rho(p_w, p_l).item() == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_a_reference_is_a_constant_shift(name: str) -> None:
    given_ = [value.requires_grad_() for value in logs(0.3, 0.4)]
    reference = logs(0.35, 0.2)
    plain, shifted = read(name).rho(*given_), read(f"{name}; ref").rho(*given_, *reference)
    assert (shifted - plain).item() == pytest.approx((reference[1] - reference[0]).item(), abs=1e-12)
    one, other = torch.autograd.grad(plain, given_), torch.autograd.grad(shifted, given_)
    torch.testing.assert_close(other, one, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", [*NAMES, "CPO; ref", "ORPO; ref", "Ml & Refw -> Mw; given=Mw ^ Ml"])
def test_gradient_of_rho(name: str) -> None:
    structure = read(name)
    generator = torch.Generator().manual_seed(2)
    logps = (-0.02 - 3 * torch.rand(4, 6, generator=generator, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(lambda logps: structure.rho(*logps), (logps,))


@pytest.mark.parametrize("name", [*NAMES, "CPO; ref", "unCPO; ref"])
def test_extremes_are_finite(name: str) -> None:
    """Probabilities that round to 0 and 1, in float32: value and gradient stay finite."""
    edge = torch.tensor([0.0, -1e-9, -1e-7, -1e-3, -90.0, -1e4, -1e30])
    p = torch.cartesian_prod(edge, edge).T.contiguous().requires_grad_()
    reference = torch.full_like(p, -3.0).detach()
    value = read(name).rho(*p, *reference)
    assert value.isfinite().all()
    (gradient,) = torch.autograd.grad(value.sum(), p)
    assert gradient.isfinite().all()


def test_a_certain_response_gets_no_gradient() -> None:
    p = torch.tensor([0.0, -1.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(read("CE").rho(p[0], p[1]), p)
    assert gradient[0] == 0


def test_the_reference_is_asked_for() -> None:
    with pytest.raises(ValueError, match="pass its log-probabilities"):
        read("CPO; ref").rho(*logs(0.3, 0.4))


def test_ratio_text() -> None:
    assert read("cCPO").ratio() == "p_w / (p_l (1 - p_w))"
    assert read("CEUNL").ratio() == "p_w (1 - p_l) / (1 - p_w (1 - p_l))"
    assert read("CEUNL; ref").ratio() == "p_w r_l (1 - p_l) / (r_w (1 - p_w (1 - p_l)))"
    assert read("CE").ratio() == "p_w / (1 - p_w)"


@quick
@given(st.integers(1, ALL), st.integers(1, ALL))
def test_ratio_text_is_the_ratio(tick: int, cross: int) -> None:
    structure = Structure.of_tables(tick, cross)
    values = dict(zip(PROBABILITIES, (0.3, 0.45, 0.6, 0.85), strict=True))
    top, bottom = (side.subs(values) for side in structure.polynomials())
    assert evaluate(structure.ratio(), values) == pytest.approx(float(top / bottom), rel=1e-9)


def evaluate(text: str, values: dict[Any, float]) -> float:
    """A ratio in text, with factors side by side."""
    return float(sympify(re.sub(r"(?<=[\w)]) (?=[\w(])", "*", text)).subs(values))
