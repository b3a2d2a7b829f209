"""Matching by rank, pools, transforms, baselines and single-response losses."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rather.data.types import Comparison, Edge
from rather.methods.registry import get
from rather.objectives.baselines import Baseline, BaselineMode
from rather.objectives.listwise import MeanMargin, SoftestMargin
from rather.objectives.margins import by_rank
from rather.objectives.scores import Layout, Scores, segment_logsumexp
from rather.objectives.transforms import log_odds

numbers = st.lists(st.floats(-100, 100), min_size=1, max_size=12)


@given(
    numbers.flatmap(lambda a: st.tuples(st.just(a), st.lists(st.floats(-100, 100), min_size=len(a), max_size=len(a))))
)
def test_by_rank_pairs_what_sorting_both_pairs(vectors: tuple[list[float], list[float]]) -> None:
    like, values = (torch.tensor(v, dtype=torch.float64) for v in vectors)
    matched = by_rank(values, like)
    order = like.argsort(stable=True)
    assert torch.equal(matched[order], values.sort().values)


def test_by_rank_sends_the_gradient_home() -> None:
    values = torch.tensor([3.0, 1.0, 2.0], requires_grad=True)
    matched = by_rank(values, torch.tensor([0.0, 10.0, 5.0]))
    assert matched.tolist() == [1.0, 3.0, 2.0]
    (gradient,) = torch.autograd.grad((matched * torch.tensor([1.0, 10.0, 100.0])).sum(), values)
    assert gradient.tolist() == [10.0, 1.0, 100.0]


def test_pools_of_lists_with_and_without_edges() -> None:
    comparisons = [
        Comparison("three", "", ("",) * 3, (Edge(0, 1), Edge(0, 2))),
        Comparison("marked", "", ("",), desirable=(True,)),
        Comparison("pair", "", ("",) * 2, (Edge(1, 0),)),
    ]
    layout = Layout.of(comparisons, [1] * 6)
    z = torch.tensor([1.0, 3.0, -2.0], dtype=torch.float64, requires_grad=True)
    softest, mean = SoftestMargin()(z, layout), MeanMargin()(z, layout)
    assert softest.tolist() == pytest.approx([-math.log(math.exp(-1) + math.exp(-3)), 0.0, -2.0])
    assert mean.tolist() == pytest.approx([2.0, 0.0, -2.0])
    (gradient,) = torch.autograd.grad(softest.sum(), z)
    assert gradient.isfinite().all()


def test_a_list_without_edges_adds_nothing_under_any_label_model() -> None:
    pair = Comparison("pair", "", ("",) * 2, (Edge(0, 1),))
    marked = Comparison("marked", "", ("",), desirable=(True,))
    elements = torch.tensor([-1.0, -2.0, -3.0])
    losses = []
    for comparisons in ([pair], [pair, marked]):
        layout = Layout.of(comparisons, [1] * sum(len(c.responses) for c in comparisons))
        scores = Scores(elements[: layout.responses], torch.arange(layout.responses))
        zero = Scores(torch.zeros(layout.responses), scores.response)
        outcome = get("sdpo").objective(**{"labels.smoothing": 0.1})(scores, zero, layout)
        losses.append(outcome.loss(layout.counts()).item())
    assert losses[0] == pytest.approx(losses[1])
    assert math.isfinite(losses[1])


def test_log_sum_exp_far_from_zero() -> None:
    values = torch.tensor([1e4, 1e4, -1e4])
    out = segment_logsumexp(values, torch.tensor([0, 0, 2]), 3)
    assert out.tolist() == pytest.approx([1e4 + math.log(2), -math.inf, -1e4])


def test_log_odds() -> None:
    logp = torch.tensor([-1e-12, -1e-3, -0.5, -1.0, -20.0, -800.0], dtype=torch.float64)
    exact = [27.6310211, 6.90725525, 0.43275213, -0.54132485, -20.0, -800.0]
    assert log_odds(logp).tolist() == pytest.approx(exact, rel=1e-6)
    certain = torch.tensor([0.0, 1e-3], requires_grad=True)
    (gradient,) = torch.autograd.grad(log_odds(certain).sum(), certain)
    assert log_odds(certain).isfinite().all()
    assert gradient.tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("running", [2.0, 1.5, 3.0]),
        ("previous", [2.0, 1.5, 4.5]),
        ("batch", [2.0, 2.0, 2.0]),
        ("none", [0.0, 0.0, 0.0]),
    ],
)
def test_baselines(mode: BaselineMode, expected: list[float]) -> None:
    """Before any step, after one of mean 1.5 (2 responses), after another of mean 4.5 (2 responses)."""
    baseline, batch = Baseline(mode), torch.tensor([1.0, 3.0], requires_grad=True)
    seen = [baseline(batch)]
    for step in (torch.tensor([1.0, 2.0]), torch.tensor([4.0, 5.0])):
        baseline.advance(step)
        seen.append(baseline(batch))
    assert [value.item() for value in seen] == pytest.approx(expected)
    assert not any(value.requires_grad for value in seen)


def test_running_mean_weighs_by_responses() -> None:
    baseline = Baseline("running")
    baseline.advance(torch.tensor([0.0]))
    baseline.advance(torch.tensor([4.0, 4.0, 4.0]))
    baseline.advance(torch.tensor([]))
    assert baseline.mean.item() == pytest.approx(3.0)


def test_floor() -> None:
    assert Baseline("batch", floor=0.0)(torch.tensor([-3.0, -1.0])).item() == 0.0


def test_pairs_cost_the_marks_they_stand_for() -> None:
    """KTO on pairs equals KTO on the same responses marked good and bad."""
    elements = torch.tensor([-1.0, -2.0, -4.0, -1.5], dtype=torch.float64)
    policy, reference = Scores(elements, torch.arange(4)), Scores(elements * 0 - 2, torch.arange(4))
    pairs = [Comparison(str(k), "", ("",) * 2, (Edge(0, 1),)) for k in range(2)]
    marks = [Comparison(str(k), "", ("",) * 2, desirable=(True, False)) for k in range(2)]
    objective = get("kto").objective(beta=1.0, desirable_weight=1.25, undesirable_weight=0.75)
    losses = []
    for comparisons in (pairs, marks):
        layout = Layout.of(comparisons, [1] * 4)
        losses.append(objective(policy, reference, layout).loss(layout.counts()).item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)
