"""Regression on the ratings of a group: GPO of arXiv 2410.02197."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

import rather
from rather.data.types import Auxiliary, Comparison, Edge
from rather.methods.registry import get
from rather.objectives.embedding import score_table
from rather.objectives.outcome import Outcome
from rather.objectives.scores import Layout, Scores


def vector(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def group(values: Tensor, lengths: list[int] | None = None) -> Layout:
    """One prompt with a rating for each response."""
    count = values.numel()
    edges = tuple(Edge(i, j) for i in range(count) for j in range(count) if values[i] > values[j])
    layout = Layout.of([Comparison("a", "", ("",) * count, edges)], lengths or [1] * count)
    return replace(layout, value=values)


def gpo(ratio: Tensor, values: Tensor, lengths: list[int] | None = None, **options: object) -> Outcome:
    """GPO of log-ratios [K]; a response's elements share its log-ratio."""
    layout = group(values, lengths)
    response = torch.repeat_interleave(torch.arange(layout.responses), layout.lengths)
    policy = Scores((ratio / layout.lengths)[response], response)
    zero = Scores(torch.zeros_like(policy.elements), response)
    return get("gpo").objective(**options)(policy, zero, layout)


def test_published_errors() -> None:
    out = gpo(vector(0.4, -0.2), vector(1.2, -0.9), beta=2.0, centred=False)
    assert_close(out.terms[0].values, vector(0.04, 0.0625))
    of_length = gpo(vector(0.4), vector(1.2), [8], beta=2.0, gamma=1.0, centred=False)
    assert of_length.terms[0].values.item() == pytest.approx(0.3025, abs=1e-12)


def test_the_exponential_update_is_its_solution() -> None:
    """One exact iteration on rock, paper, scissors: the log-ratios of the new policy, but for log Z, have no error."""
    angles = [2 * math.pi * k / 3 for k in range(3)]
    table = score_table(vector(*(f(a) for a in angles for f in (math.cos, math.sin))).reshape(3, 2))
    pi, beta = vector(0.6, 0.3, 0.1), 2.0
    expected = table @ pi
    assert expected.tolist() == pytest.approx([0.17320508075689, -0.43301270189222, 0.25980762113533], abs=1e-13)
    log_z = torch.log((pi * (expected / beta).exp()).sum())
    assert log_z.item() == pytest.approx(0.0097008123236402, abs=1e-14)
    after = pi * (expected / beta - log_z).exp()
    assert after.tolist() == pytest.approx([0.64796156626312, 0.23926585826757, 0.11277257546931], abs=1e-13)
    out = gpo(torch.log(after / pi), expected, beta=beta, centred=False)
    assert_close(out.terms[0].values, (log_z**2).expand(3))


values_ = st.lists(st.floats(-3, 3), min_size=2, max_size=5, unique=True)


@given(values_, st.floats(0.05, 5))
def test_gradient_at_the_reference(values: list[float], beta: float) -> None:
    """At pi = pi_t the gradient on log-ratio i is -2 s_i / (beta K) for scores that add up to 0."""
    centred = vector(*values) - vector(*values).mean()
    ratio = torch.zeros(len(values), dtype=torch.float64, requires_grad=True)
    out = gpo(ratio, centred, beta=beta)
    (gradient,) = torch.autograd.grad(out.loss({"responses": len(values)}), ratio)
    assert_close(gradient, -2 * centred / (beta * len(values)), rtol=1e-9, atol=1e-9)


@given(values_, st.floats(-10, 10))
def test_rewards_of_any_level_do_the_same(values: list[float], shift: float) -> None:
    ratio = torch.linspace(-1, 1, len(values), dtype=torch.float64)
    one, other = (gpo(ratio, vector(*values) + level, beta=0.5) for level in (0.0, shift))
    assert_close(other.terms[0].values, one.terms[0].values, rtol=1e-6, atol=1e-6)


def test_mean_win_probabilities_are_measured_from_one_half() -> None:
    """SPPO's target (P - 1/2) / beta: over a group with itself the mean win probability is 1/2."""
    win = torch.sigmoid(
        score_table(torch.randn(4, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
    )
    mean = win.mean(1)
    ratio = vector(0.1, -0.2, 0.3, 0.0)
    assert_close(gpo(ratio, mean, beta=0.7).terms[0].values, (ratio - (mean - 0.5) / 0.7) ** 2)


def test_weights_and_auxiliary_responses() -> None:
    comparison = Comparison(
        "a",
        "",
        ("", ""),
        (Edge(0, 1, weight=3.0),),
        scores=(1.0, 0.0),
        auxiliary=(Auxiliary("rationale", "why", None),),
    )
    layout = Layout.of([comparison], [1, 1, 1])
    scores = Scores(vector(0.5, -0.5, 9.0), torch.arange(3))
    zero = Scores(torch.zeros(3, dtype=torch.float64), torch.arange(3))
    out = get("gpo").objective(beta=1.0)(scores, zero, layout)
    assert out.terms[0].values.tolist() == [0.0, 0.0]
    out = get("gpo").objective(beta=0.5)(scores, zero, layout)
    assert out.terms[0].values.tolist() == pytest.approx([3 * 0.25, 3 * 0.25])


def test_a_response_without_a_score_is_refused() -> None:
    layout = Layout.of([Comparison("a", "", ("", ""), (Edge(0, 1),))], [1, 1])
    scores = Scores(torch.zeros(2), torch.arange(2))
    for name in ("gpo", "pad"):
        with pytest.raises(rather.UserError, match="score of every response"):
            get(name).objective()(scores, scores, layout)
