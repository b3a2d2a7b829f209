"""Skew-symmetric scores of embeddings, arXiv 2410.02197: numbers, identities, and the loss of reward models."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize
from torch.testing import assert_close

import rather
from rather.data.types import Comparison, Edge
from rather.methods.registry import get
from rather.objectives.embedding import EMBEDDING, GATE, EmbeddingPreference, mean_scores, score_table, skew_score
from rather.objectives.labels import Moving
from rather.objectives.links import Hinge, Logistic
from rather.objectives.outcome import Outcome
from rather.objectives.scores import Layout, Scores


def vector(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


V_I, V_J = vector(0.6, -0.2, 0.3, 0.7), vector(-0.1, 0.5, 0.4, -0.3)


def loss_of_pair(win: Tensor, lose: Tensor, **options: object) -> Outcome:
    one = torch.ones(1, dtype=torch.long)
    probability = vector(options.pop("probability", math.nan))  # type: ignore[arg-type]
    layout = replace(Layout.of_pairs(one, one), probability=probability, margin=vector(0.5))
    scores = Scores(torch.zeros(2, dtype=torch.float64), torch.arange(2), {EMBEDDING: torch.stack([win, lose])})
    return get("gpm").objective(**options)(scores, None, layout)


def test_published_scores() -> None:
    unit = [normalize(v, dim=-1) for v in (V_I, V_J)]
    assert skew_score(V_I, V_J).item() == pytest.approx(-0.09, abs=1e-15)
    assert skew_score(*unit).item() == pytest.approx(-0.127304684097, abs=1e-12)
    assert skew_score(*unit, vector(0.7, 0.3)).item() == pytest.approx(0.12023220164717, abs=1e-14)
    assert skew_score(vector(1.3, 2), vector(0.4, 2)).item() == pytest.approx(1.8, abs=1e-15)


def test_published_losses() -> None:
    win, lose = normalize(V_I, dim=-1), normalize(V_J, dim=-1)
    assert loss_of_pair(win, lose).per_edge.item() == pytest.approx(1.5198891645863, abs=1e-12)
    assert loss_of_pair(win, lose, probability=0.8).per_edge.item() == pytest.approx(1.2652797963923, abs=1e-12)


def test_a_margin_is_asked_of_the_score() -> None:
    out = loss_of_pair(V_I, V_J, tau=0.2, margin_scale=2.0)
    assert out.per_edge.item() == pytest.approx(math.log1p(math.exp((0.09 + 1.0) / 0.2)), rel=1e-12)


def test_a_cycle_of_three() -> None:
    angles = [2 * math.pi * k / 3 for k in range(3)]
    table = score_table(vector(*(f(a) for a in angles for f in (math.cos, math.sin))).reshape(3, 2))
    for i, j in ((0, 1), (1, 2), (2, 0)):
        assert table[i, j].item() == pytest.approx(0.86602540378444, abs=1e-14)
        assert table[j, i].item() == pytest.approx(-0.86602540378444, abs=1e-14)


numbers = st.floats(-5, 5, allow_nan=False, width=32)


@st.composite
def responses(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    planes, count = draw(st.integers(1, 4)), draw(st.integers(2, 5))
    flat = draw(st.lists(numbers, min_size=2 * planes * count, max_size=2 * planes * count))
    gate = draw(st.lists(st.floats(0, 3), min_size=planes, max_size=planes))
    return vector(*flat).reshape(count, 2 * planes), vector(*gate)


@given(responses())
def test_antisymmetric_exactly(case: tuple[Tensor, Tensor]) -> None:
    vectors, gate = case
    table = score_table(vectors, gate)
    assert torch.equal(table, -table.T)
    assert not table.diagonal().any()
    assert_close(torch.sigmoid(table / 0.1) + torch.sigmoid(table.T / 0.1), torch.ones_like(table))


@given(responses())
def test_mean_scores_are_those_of_the_table_and_add_up_to_zero(case: tuple[Tensor, Tensor]) -> None:
    vectors, gate = case
    count = len(vectors)
    means = mean_scores(vectors, torch.zeros(count, dtype=torch.long), 1, gate.expand(count, -1))
    assert_close(means, score_table(vectors, gate).mean(1), rtol=1e-9, atol=1e-9)
    assert means.sum().item() == pytest.approx(0.0, abs=1e-9)


@given(responses(), st.floats(-math.pi, math.pi))
def test_turning_a_plane_changes_nothing(case: tuple[Tensor, Tensor], angle: float) -> None:
    vectors, gate = case
    turned = vectors.clone()
    turn = vector(math.cos(angle), -math.sin(angle), math.sin(angle), math.cos(angle)).reshape(2, 2)
    turned[:, :2] = vectors[:, :2] @ turn.T
    assert_close(score_table(turned, gate), score_table(vectors, gate), rtol=1e-9, atol=1e-9)


@given(responses())
def test_unit_vectors_are_bounded_by_the_largest_weight(case: tuple[Tensor, Tensor]) -> None:
    vectors, gate = case
    unit = normalize(vectors, dim=-1)
    assert float(score_table(unit, gate).abs().max()) <= float(gate.max()) + 1e-12


@given(st.integers(2, 6), st.integers(0, 2**31))
def test_every_skew_symmetric_table_can_be_represented(count: int, seed: int) -> None:
    wanted = torch.randn(count, count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    wanted = wanted - wanted.T
    vectors = torch.stack([torch.eye(count, dtype=torch.float64), -wanted / 2], -1).flatten(1)
    assert_close(score_table(vectors), wanted, rtol=1e-9, atol=1e-9)


@given(numbers, numbers, st.floats(0.1, 3))
def test_one_plane_is_bradley_terry(first: float, second: float, height: float) -> None:
    s = skew_score(vector(first, height), vector(second, height))
    assert s.item() == pytest.approx(height * (first - second), abs=1e-9)


def test_of_unit_vectors_in_a_plane_it_is_the_sine_of_the_angle_between() -> None:
    a, b = 0.4, 1.9
    s = skew_score(vector(math.cos(a), math.sin(a)), vector(math.cos(b), math.sin(b)))
    assert s.item() == pytest.approx(math.sin(b - a), abs=1e-15)


def two_lists(seed: int = 0) -> tuple[Scores, Layout]:
    generator = torch.Generator().manual_seed(seed)
    comparisons = [
        Comparison("a", "", ("",) * 3, (Edge(0, 1), Edge(1, 2), Edge(2, 0))),
        Comparison("b", "", ("",) * 2, (Edge(1, 0, weight=0.5),)),
    ]
    extras = {
        EMBEDDING: torch.randn(5, 4, generator=generator, dtype=torch.float64),
        GATE: torch.rand(5, 2, generator=generator, dtype=torch.float64),
    }
    extras[GATE][1:3], extras[GATE][4] = extras[GATE][0], extras[GATE][3]
    zeros = torch.zeros(5, dtype=torch.float64)
    return Scores(zeros, torch.arange(5), extras), Layout.of(comparisons, [1] * 5)


def test_gradient_by_finite_differences() -> None:
    scores, layout = two_lists()
    objective = get("gpm").objective(tau=0.5)

    def loss(vectors: Tensor, gate: Tensor) -> Tensor:
        given = Scores(scores.elements, scores.response, {EMBEDDING: vectors, GATE: gate})
        return objective(given, None, layout).loss(layout.counts())

    inputs = [scores.extras[name].clone().requires_grad_() for name in (EMBEDDING, GATE)]
    assert torch.autograd.gradcheck(loss, inputs)


def test_rows_may_come_in_any_order() -> None:
    scores, layout = two_lists()
    objective = get("gpm").objective()
    order = torch.tensor([3, 0, 4, 2, 1])
    moved = Scores(scores.elements, scores.response[order], {k: v[order] for k, v in scores.extras.items()})
    one, other = (objective(each, None, layout) for each in (scores, moved))
    assert_close(other.per_edge, one.per_edge)
    assert_close(other.rewards, one.rewards)


def test_margins_are_scores_and_rewards_their_means() -> None:
    scores, layout = two_lists()
    out = get("gpm").objective(tau=0.5)(scores, None, layout)
    table = score_table(scores.extras[EMBEDDING][:3], scores.extras[GATE][0]) / 0.5
    assert_close(out.margins[:3], torch.stack([table[0, 1], table[1, 2], table[2, 0]]))
    assert_close(out.rewards[:3], table.mean(1))
    # Of two responses, margins are differences of rewards.
    assert_close(out.margins[3], out.rewards[4] - out.rewards[3])


def test_any_link_and_label_model() -> None:
    scores, layout = two_lists()
    hinge = EmbeddingPreference(scale=1.0, link=Hinge())(scores, None, layout)
    assert_close(hinge.per_edge, torch.relu(1 - hinge.margins))
    corrected = get("gpm").objective(tau=1.0, **{"labels.flip_rate": 0.25})(scores, None, layout)
    z = corrected.margins
    by_hand = (0.75 * -torch.nn.functional.logsigmoid(z) + 0.25 * torch.nn.functional.logsigmoid(-z)) / 0.5
    assert_close(corrected.per_edge, by_hand)


def test_moving_labels_move_once_a_step() -> None:
    scores, layout = two_lists()
    objective = EmbeddingPreference(scale=1.0, link=Logistic(), labels=Moving(0.5))
    out = objective(scores, None, layout)
    objective.advance(out.observations)
    assert isinstance(objective.labels, Moving)
    assert objective.labels.table.values.numel() == layout.edges


def test_extremes_are_finite_in_float32() -> None:
    vectors = torch.tensor([[1e4, -1e4], [1e4, 1e4]]).requires_grad_()
    layout = Layout.of([Comparison("a", "", ("", ""), (Edge(0, 1),))], [1, 1])
    out = get("gpm").objective()(Scores(torch.zeros(2), torch.arange(2), {EMBEDDING: vectors}), None, layout)
    (gradient,) = torch.autograd.grad(out.loss(layout.counts()), vectors)
    assert torch.isfinite(out.per_edge).all() and torch.isfinite(gradient).all()


def test_scores_without_embeddings_are_refused() -> None:
    layout = Layout.of([Comparison("a", "", ("", ""), (Edge(0, 1),))], [1, 1])
    with pytest.raises(rather.UserError, match="no embedding"):
        get("gpm").objective()(Scores(torch.zeros(2), torch.arange(2)), None, layout)


def test_bt_is_a_loss_of_rewards_with_any_link() -> None:
    chosen, rejected = vector(1.3, -0.2), vector(0.4, 0.5)
    z = (chosen - rejected) / 2
    assert_close(rather.loss("bt", chosen, rejected, tau=2.0).per_pair, -torch.nn.functional.logsigmoid(z))
    assert_close(rather.loss("bt", chosen, rejected, tau=2.0, link="sigmoid").per_pair, torch.sigmoid(-z))
    robust = rather.loss("bt", chosen, rejected, tau=2.0, labels={"flip_rate": 0.1})
    reference = rather.loss("rdpo", chosen, rejected, vector(0, 0), vector(0, 0), beta=0.5, flip_rate=0.1)
    assert_close(robust.per_pair, reference.per_pair)
