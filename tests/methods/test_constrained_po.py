"""Constrained preference optimization: values of every variant, limits, and the theory that it comes from."""

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
from rather.methods.registry import get
from rather.objectives.margins import (
    ClippedReference,
    InverseLogProbabilities,
    InverseProbabilities,
    SoftplusReference,
)
from rather.objectives.scores import Layout

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "constrained_po.json").read_text())

quick = settings(max_examples=60, deadline=None)
score = st.floats(-8, -0.05)
scores = st.tuples(score, score, score, score)
beta_ = st.floats(0.1, 5)
gamma_ = st.floats(0.001, 2)


def vector(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def loss(at: tuple[float, ...], **options: Any) -> float:
    one = {"chosen_lengths": torch.ones(1), "rejected_lengths": torch.ones(1)}
    return rather.loss("constrained_po", *(vector(value) for value in at), **one, **options).loss.item()


def dpo(at: tuple[float, ...], beta: float) -> float:
    return rather.loss("dpo", *(vector(value) for value in at), beta=beta).loss.item()


@pytest.mark.parametrize("row", VECTORS["rows"], ids=lambda row: f"{row[0]},{row[1]}")
def test_values(row: list[float]) -> None:
    given = dict(zip(VECTORS["columns"], row, strict=True))
    at = tuple(given[name] for name in ("score_w", "score_l", "ref_w", "ref_l"))
    options = {"beta": given["beta"], "gamma": given["gamma"], "tau": 2.0}
    assert dpo(at, given["beta"]) == pytest.approx(given["dpo"], rel=1e-11)
    for variant in ("easy_code", "clip", "eq17"):
        assert loss(at, variant=variant, **options) == pytest.approx(given[variant], rel=1e-11)
    for alpha in ("1", "0.25"):
        found = loss(at, variant="softplus", alpha=float(alpha), **options)
        assert found == pytest.approx(given[f"softplus_alpha_{alpha}"], rel=1e-11)
    layout, reference = Layout.of_pairs(torch.ones(1).long(), torch.ones(1).long()), vector(*at[2:])
    soft = SoftplusReference(1.0, given["gamma"], 2.0)(reference, reference, layout)
    assert soft.item() == pytest.approx(given["m_softplus"], rel=1e-11)
    easy = InverseLogProbabilities(given["gamma"])(reference, reference, layout)
    assert easy.item() == pytest.approx(given["m_easy"], rel=1e-11)


def test_scores_are_means_over_tokens() -> None:
    policy, reference = [vector(-1, -2, -3), vector(-2, -4)], [vector(-2, -2, -2), vector(-1, -2)]
    tokens = [[part] for part in (*policy, *reference)]
    at = tuple(float(part.mean()) for part in (*policy, *reference))
    assert rather.loss("constrained_po", *tokens).loss.item() == pytest.approx(loss(at), rel=1e-12)


@quick
@given(scores, beta_, gamma_)
def test_limits(at: tuple[float, ...], beta: float, gamma: float) -> None:
    plain = dpo(at, beta)
    for variant in ("easy_code", "eq17"):
        assert loss(at, variant=variant, beta=beta, gamma=0.0) == pytest.approx(plain, rel=1e-9, abs=1e-12)
    assert loss(at, beta=beta, gamma=gamma, alpha=1e12) == pytest.approx(plain, rel=1e-6, abs=1e-9)
    of_reference = at[2] - at[3]
    free = dpo((at[0], at[1], 0.0, 0.0), beta)
    clipped = loss(at, variant="clip", beta=beta)
    assert clipped == pytest.approx(plain if of_reference >= 0 else free, rel=1e-9, abs=1e-12)
    if of_reference < gamma - 0.01:
        sharp = loss(at, beta=beta, gamma=gamma, alpha=1.0, tau=1e4)
        target = -torch.nn.functional.logsigmoid(vector(beta * (at[0] - at[1] - gamma))).item()
        assert sharp == pytest.approx(target, rel=1e-6, abs=1e-9)


@quick
@given(scores, beta_, gamma_)
def test_order_of_the_variants(at: tuple[float, ...], beta: float, gamma: float) -> None:
    """The released easy margin is on the other side of DPO than the theory's."""
    plain = dpo(at, beta)
    for variant, sign in (("softplus", 1), ("eq17", 1), ("clip", 1), ("easy_code", -1)):
        assert sign * (loss(at, variant=variant, beta=beta, gamma=gamma) - plain) >= -1e-12


@quick
@given(scores, beta_, gamma_, st.sampled_from(["softplus", "clip", "easy_code", "eq17"]))
def test_the_margin_has_no_gradient(at: tuple[float, ...], beta: float, gamma: float, variant: str) -> None:
    parts = [vector(value).requires_grad_() for value in at]
    one = {"chosen_lengths": torch.ones(1), "rejected_lengths": torch.ones(1)}
    out = rather.loss("constrained_po", *parts, **one, beta=beta, gamma=gamma, variant=variant)
    gradients = torch.autograd.grad(out.loss, parts, allow_unused=True)
    push = -beta * -math.expm1(-out.loss.item())  # -beta sigma(-z), as 1 - exp(-loss)
    assert gradients[0] is not None
    assert gradients[0].item() == pytest.approx(push, rel=1e-6, abs=1e-12)
    assert gradients[2] is None or not gradients[2].any()


@quick
@given(scores, st.floats(-2, 2), beta_, gamma_)
def test_a_common_shift_of_both_margins(at: tuple[float, ...], shift: float, beta: float, gamma: float) -> None:
    moved = (at[0] + shift, at[1], at[2] + shift, at[3])
    assert dpo(moved, beta) == pytest.approx(dpo(at, beta), rel=1e-9, abs=1e-12)
    if shift < -1e-3:
        assert loss(moved, beta=beta, gamma=gamma, alpha=1.0) > loss(at, beta=beta, gamma=gamma, alpha=1.0)


@given(st.floats(-8, 8), st.floats(1e-3, 4), gamma_, st.floats(0.5, 10))
@quick
def test_a_worse_reference_is_asked_for_more(gap: float, worse: float, gamma: float, tau: float) -> None:
    layout = Layout.of_pairs(torch.ones(2).long(), torch.ones(2).long())
    reference = vector(gap, gap - worse, 0.0, 0.0)
    for margin, strict in ((SoftplusReference(1.0, gamma, tau), True), (ClippedReference(1.0), False)):
        better, more = margin(reference, reference, layout).tolist()
        assert more >= better >= 0
        assert not strict or more > better or more < 1e-12


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("variant", ["softplus", "clip", "easy_code", "eq17"])
def test_finite_far_out(variant: str, dtype: torch.dtype) -> None:
    ends = (0.0, -1e-30, -1e4)
    one = {"chosen_lengths": torch.ones(1), "rejected_lengths": torch.ones(1)}
    for at in [(a, b, c, d) for a in ends for b in ends for c in ends for d in ends]:
        parts = [torch.tensor([value], dtype=dtype) for value in at]
        parts[0].requires_grad_()
        out = rather.loss("constrained_po", *parts, **one, variant=variant, labels={"smoothing": 0.1})
        assert torch.isfinite(out.loss), at
        assert torch.isfinite(torch.autograd.grad(out.loss, parts[0])[0]).all(), at


def test_a_probability_that_underflows_asks_for_a_bounded_margin() -> None:
    layout = Layout.of_pairs(torch.ones(1).long(), torch.ones(1).long())
    reference = vector(-1e4, -50.0)
    assert InverseProbabilities(0.5)(reference, reference, layout).item() == pytest.approx(math.exp(40))


def test_alpha_divides() -> None:
    at = (-1.0, -1.5, -1.2, -1.4)
    assert loss(at, alpha=0.25) > loss(at, alpha=1.0) > loss(at, alpha=4.0)


def test_it_is_not_the_contrastive_method() -> None:
    assert get("constrained_cpo").name == "constrained_po"
    assert get("cpo").name == "cpo"
    assert get("contrastive").source.startswith("arXiv 2401.08417")


def test_in_the_undesirable_set_dpo_is_content_and_this_is_not() -> None:
    """d = -0.2 lies between d_ref = -1 and 0: DPO's loss is below its start, the rejected response still ahead."""
    at = (-0.9, -0.7, -1.5, -0.5)
    assert dpo(at, 1.0) < math.log(2)
    assert loss(at, variant="clip", beta=1.0) > math.log(2)
    assert loss(at, variant="softplus", beta=1.0, gamma=0.5, alpha=1.0) > math.log(2)
