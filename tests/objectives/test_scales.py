"""Factors on the beta of each edge, against published and hand-derived numbers, and their identities."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import rather
from rather.data.gaps import rating_range, with_gaps
from rather.data.types import Comparison, Edge
from rather.methods.registry import get
from rather.objectives.preference import Preference
from rather.objectives.scales import Confidence, CosineDecay
from rather.objectives.scores import Layout, Scores

VALUES: dict[str, Any] = json.loads((Path(__file__).parents[1] / "vectors" / "noising.json").read_text())
SMOOTHING, FLOW = VALUES["smoothing"], VALUES["flow"]


def vector(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def scores(values: dict[str, Any]) -> dict[str, Tensor]:
    """Mean squared errors as scores of one element."""
    return {name: -0.5 * vector(errors) for name, errors in values.items()}


def layout_of(probability: Any = None, margin: Any = None) -> Layout:
    given = probability if probability is not None else margin
    ones = torch.ones(len(given), dtype=torch.long)
    columns = {"probability": probability, "margin": margin}
    known = {name: vector(column) for name, column in columns.items() if column is not None}
    return replace(Layout.of_pairs(ones, ones), **known)


def rated() -> list[Comparison]:
    pairs = zip(SMOOTHING["first"], SMOOTHING["second"], strict=True)
    return [Comparison(f"r{i}", "", ("", ""), (Edge(0, 1),), scores=both) for i, both in enumerate(pairs)]


def test_smoothing_values() -> None:
    given = {"reward_low": SMOOTHING["low"], "reward_high": SMOOTHING["high"]}
    method = get("smpo")
    assert method.augment is not None
    made = method.augment(method.configure(given), rated(), 0)
    omega = Confidence(10.0)(layout_of(margin=[one.edges[0].margin for one in made]))
    # The judge's order is what counts: the released code turns these pairs round, here their factor is negative.
    sign = vector([1.0, -1.0, 1.0, 1.0])
    torch.testing.assert_close(sign * omega, vector(SMOOTHING["omega"]), rtol=1e-10, atol=1e-12)
    of_probability = Confidence(10.0)(layout_of(probability=SMOOTHING["probability"]))
    torch.testing.assert_close(of_probability, vector(SMOOTHING["omega"]), rtol=1e-9, atol=1e-11)


def test_smoothed_loss_values() -> None:
    probability = vector([SMOOTHING["probability"][i] for i in (0, 1, 3)])
    given = scores(SMOOTHING["errors"])
    out = rather.loss("smpo", **given, probability=probability, beta=SMOOTHING["beta"], reduce="sum")
    assert out.per_pair.tolist() == pytest.approx(SMOOTHING["per_pair"], abs=6e-10)
    assert out.loss.item() == pytest.approx(SMOOTHING["loss"], abs=6e-10)


def test_gap_and_decay_values() -> None:
    factors = Confidence()(layout_of(margin=FLOW["gap"]))
    assert factors.tolist() == pytest.approx(FLOW["f"], abs=6e-12)
    decay = CosineDecay(0.25, 0.75)
    decay.plan(400)
    assert [decay.factor(done) for done in FLOW["done"]] == pytest.approx(FLOW["g"], abs=6e-11)


def test_decaying_loss_values() -> None:
    objective = get("pnapo").objective(beta=FLOW["beta"], decay_start=0.25, decay_end=0.75, reduce="sum")
    objective.plan(400)
    for _ in range(FLOW["at"]):
        objective.advance({})
    given = scores(FLOW["errors"])
    response = torch.arange(4)
    policy, reference = (
        Scores(torch.cat([given[f"{prefix}chosen"], given[f"{prefix}rejected"]]), response) for prefix in ("", "ref_")
    )
    layout = layout_of(margin=FLOW["margin"])
    outcome = objective(policy, reference, layout)
    assert outcome.per_edge.tolist() == pytest.approx(FLOW["per_pair"], abs=6e-10)
    assert outcome.loss(layout.counts()).item() == pytest.approx(FLOW["loss"], abs=6e-10)
    fresh = get("pnapo").objective(beta=FLOW["beta"], decay_start=0.25, decay_end=0.75, reduce="sum")
    fresh.load_state_dict(objective.state_dict())
    fresh.plan(400)
    assert fresh(policy, reference, layout).per_edge.equal(outcome.per_edge), "a resumed run goes on where it was"


SCORES = st.lists(st.floats(-5, 5), min_size=4, max_size=4)


@settings(max_examples=50, deadline=None)
@given(SCORES, st.floats(0, 1))
def test_turning_a_pair_round_is_the_other_probability(values: list[float], p: float) -> None:
    chosen, rejected, ref_chosen, ref_rejected = (vector([value]) for value in values)
    one = rather.loss(
        "smpo", chosen, rejected, ref_chosen, ref_rejected, probability=vector([p]), beta=1.0, reduce="sum"
    )
    other = rather.loss(
        "smpo", rejected, chosen, ref_rejected, ref_chosen, probability=vector([1 - p]), beta=1.0, reduce="sum"
    )
    torch.testing.assert_close(one.loss, other.loss, rtol=1e-9, atol=1e-9)


@settings(max_examples=50, deadline=None)
@given(SCORES, st.floats(-20, 20), st.floats(0.1, 5))
def test_a_gap_is_a_beta_of_its_own(values: list[float], gap: float, beta: float) -> None:
    own = [vector([value]) for value in values]
    plain = {"half": True, "reduce": "sum", "decay_floor": 1.0}
    found = rather.loss("pnapo", *own, margin=vector([gap]), beta=beta, **plain)
    turned = rather.loss("pnapo", own[1], own[0], own[3], own[2], margin=vector([-gap]), beta=beta, **plain)
    torch.testing.assert_close(found.loss, turned.loss, rtol=1e-9, atol=1e-9)
    f = 2 * torch.sigmoid(vector(gap)).item() - 1
    if f > 0:
        dpo = rather.loss("dpo", *own, beta=beta * f)
        torch.testing.assert_close(found.loss, dpo.loss, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(("name", "tie"), [("smpo", {"probability": 0.5}), ("pnapo", {"margin": 0.0})])
def test_a_tie_has_no_gradient(name: str, tie: dict[str, float]) -> None:
    chosen, rejected = (vector([value]).requires_grad_() for value in (-1.0, -30.0))
    column = {key: vector([value]) for key, value in tie.items()}
    out = rather.loss(name, chosen, rejected, vector([-4.0]), vector([-2.0]), reduce="sum", **column)
    out.loss.backward()
    assert out.loss.item() == pytest.approx(0.6931471805599453, abs=1e-15)
    assert chosen.grad is not None and rejected.grad is not None
    assert (chosen.grad.item(), rejected.grad.item()) == (0.0, 0.0)


def test_gradient_at_the_reference_is_proportional_to_the_factor() -> None:
    probability = vector([0.5, 0.6, 0.9, 0.2])
    chosen = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    rest = [torch.zeros(4, dtype=torch.float64) for _ in range(3)]
    rather.loss("smpo", chosen, *rest, probability=probability, beta=2.0, reduce="sum").loss.backward()
    assert chosen.grad is not None
    torch.testing.assert_close(chosen.grad, -0.5 * 2.0 * 10 * (2 * probability - 1) / 4)


def test_gradient_under_a_scale_matches_finite_differences() -> None:
    random = torch.Generator().manual_seed(0)
    own, reference = (torch.randn(6, generator=random, dtype=torch.float64) for _ in range(2))
    layout = layout_of(margin=[0.4, -1.0, 3.0])
    objective = get("smpo").objective(beta=1.5, reduce="sum")

    def loss(elements: Tensor) -> Tensor:
        response = torch.arange(6)
        return objective(Scores(elements, response), Scores(reference, response), layout).loss(layout.counts())

    assert torch.autograd.gradcheck(loss, (own.requires_grad_(),))


def test_factors_multiply_and_are_told() -> None:
    decay = CosineDecay(0.0, 0.5, floor=0.2)
    decay.plan(10)
    objective = get("pnapo").objective(beta=1.0)
    assert isinstance(objective, Preference)
    made = Preference(beta=2.0, link=objective.link, scales=(Confidence(3.0), decay))
    response, layout = torch.arange(2), layout_of(probability=[0.75])
    policy, reference = Scores(vector([1.0, 0.0]), response), Scores(vector([0.0, 0.0]), response)
    for _ in range(7):
        made.advance({})
    outcome = made(policy, reference, layout)
    margin = 2.0 * 3.0 * 0.5 * 0.2
    assert outcome.per_edge.item() == pytest.approx(torch.nn.functional.softplus(vector(-margin)).item())
    assert outcome.margins.item() == 2.0
    assert outcome.metrics["scales.0/factor"].tolist() == [1.5]


def test_ratings_become_gaps() -> None:
    rows = [*rated(), Comparison("given", "", ("", ""), (Edge(0, 1, margin=7.0),), scores=(1.0, 0.0))]
    made = with_gaps(rows, 100.0)
    assert made[0].edges[0].margin == pytest.approx(1.0)
    assert made[1].edges[0].margin == pytest.approx(-2.0)
    assert made[4].edges[0].margin == 7.0, "a margin that the data gives is kept"
    bare = [Comparison("bare", "", ("", ""), (Edge(1, 0),))]
    assert with_gaps(bare) == bare
    assert rating_range(rated()) == (0.12, 0.22)
    assert rating_range(bare) == (0.0, 1.0)
