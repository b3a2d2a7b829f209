"""Distributions over rankings, and the distillation of arXiv 2502.14272."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

import rather
from rather.data.types import Comparison, Edge
from rather.methods.registry import get
from rather.objectives.outcome import Outcome
from rather.objectives.plackett_luce import (
    divergence,
    log_distribution,
    log_likelihood,
    orders,
    partition,
    teacher_order,
)
from rather.objectives.scores import Layout, Scores

STUDENT, TEACHER = [-1.02, -1.10, -0.95, -1.31], [-0.35, -0.52, -0.41, -1.20]


def vector(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def pad(student: list[list[float]] | Tensor, teacher: list[list[float]], **options: object) -> Outcome:
    """PAD of one-token responses of several prompts."""
    comparisons = [
        Comparison(
            f"p{n}", "", ("",) * len(t), tuple(Edge(i, j) for i, a in enumerate(t) for j, b in enumerate(t) if a > b)
        )
        for n, t in enumerate(teacher)
    ]
    elements = student if isinstance(student, Tensor) else vector(*(x for s in student for x in s))
    layout = Layout.of(comparisons, [1] * elements.numel())
    layout = replace(layout, value=vector(*(x for t in teacher for x in t)))
    return get("pad").objective(**options)(Scores(elements, torch.arange(elements.numel())), None, layout)


@pytest.mark.parametrize(
    ("kind", "four", "two"),
    [
        ("vpd", 1.5969485762376, 3.0485873515737),
        ("js", 0.09840595512537, 0.2818738781053),
        ("code", 0.17920154324858, 0.40175882734714),
    ],
)
def test_published_losses(kind: str, four: float, two: float) -> None:
    assert pad([STUDENT], [TEACHER], divergence=kind).per_edge.item() == pytest.approx(four, abs=1e-12)
    assert pad([[-1, -1.3]], [[-0.5, -0.4]], divergence=kind).per_edge.item() == pytest.approx(two, abs=1e-12)


def test_published_gradient() -> None:
    student = vector(*STUDENT).requires_grad_()
    (gradient,) = torch.autograd.grad(pad(student, [TEACHER]).loss({"lists": 1}), student)
    expected = [-0.92302504175046, -0.11847731880371, 0.64904722808648, 0.3924551324677]
    assert gradient.tolist() == pytest.approx(expected, abs=1e-12)
    assert gradient.sum().item() == pytest.approx(0.0, abs=1e-12)


def test_published_distribution() -> None:
    found = log_distribution(vector(0.5, -0.2, 0.1)).exp().tolist()
    by_order = dict(zip(map(tuple, orders(3).tolist()), found, strict=True))
    expected = {
        (0, 1, 2): 0.19638951153188,
        (0, 2, 1): 0.26509811185685,
        (1, 0, 2): 0.13720003672373,
        (1, 2, 0): 0.09196793493274,
        (2, 0, 1): 0.20670014877944,
        (2, 1, 0): 0.10264425617537,
    }
    assert by_order == pytest.approx(expected, abs=1e-13)


def test_published_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "rather.objectives.plackett_luce.partition", lambda key, n, size: [np.array([0, 1]), np.array([2, 3])]
    )
    found = pad([STUDENT], [TEACHER], group_size=2).per_edge.item()
    assert found == pytest.approx(0.012840594988261, abs=1e-13)


@pytest.mark.parametrize("kind", ["js", "code"])
@pytest.mark.parametrize("prompts", [1, 2, 3])
def test_equal_distributions_cost_nothing_in_any_batch(kind: str, prompts: int) -> None:
    """The released function mixes the prompts of a batch; on these two it gives 3.735 and 12.740."""
    scores = [[-1, -1.2, -0.9], [-2, -1, -1.5], [-0.3, -0.1, -0.2]][:prompts]
    out = pad(scores, scores, divergence=kind)
    assert out.per_edge.tolist() == pytest.approx([0.0] * prompts, abs=1e-12)


numbers = st.floats(-3, 3, allow_nan=False)
lists = st.integers(2, 4).flatmap(
    lambda n: st.tuples(
        st.lists(numbers, min_size=n, max_size=n), st.lists(numbers, min_size=n, max_size=n, unique=True)
    )
)


@given(lists, st.floats(0.1, 10))
def test_a_distribution_adds_up_to_one(case: tuple[list[float], list[float]], beta: float) -> None:
    log_p = log_distribution(beta * vector(*case[0]))
    assert log_p.exp().sum().item() == pytest.approx(1.0, abs=1e-9)


@given(lists, st.floats(0.1, 5))
def test_bounds_and_symmetry(case: tuple[list[float], list[float]], beta: float) -> None:
    p, q = (log_distribution(beta * vector(*side)) for side in case)
    js, code = divergence(p, q).item(), divergence(p, q, "code").item()
    assert -1e-12 <= js <= math.log(2) + 1e-12
    assert code >= -1e-12
    assert js == pytest.approx(divergence(q, p).item(), abs=1e-12)
    assert code == pytest.approx(divergence(q, p, "code").item(), abs=1e-9)


@given(lists, st.floats(-20, 20), st.floats(-20, 20), st.sampled_from(["js", "code", "vpd"]))
def test_constants_do_not_matter(case: tuple[list[float], list[float]], one: float, other: float, kind: str) -> None:
    student, teacher = case
    moved = pad([[x + one for x in student]], [[x + other for x in teacher]], beta=1.0, divergence=kind)
    # A large constant may round differences of teacher scores away.
    if len({x + other for x in teacher}) == len(teacher):
        assert_close(
            moved.per_edge, pad([student], [teacher], beta=1.0, divergence=kind).per_edge, atol=1e-6, rtol=1e-6
        )


@given(lists, st.randoms())
def test_the_order_of_the_responses_does_not_matter(case: tuple[list[float], list[float]], random: object) -> None:
    order = list(range(len(case[0])))
    random.shuffle(order)  # type: ignore[attr-defined]
    student, teacher = ([side[i] for i in order] for side in case)
    assert_close(pad([student], [teacher]).per_edge, pad([case[0]], [case[1]]).per_edge, atol=1e-9, rtol=1e-9)


@given(lists, st.sampled_from(["js", "code"]))
def test_the_gradient_is_gone_at_equality(case: tuple[list[float], list[float]], kind: str) -> None:
    student = vector(*case[1]).requires_grad_()
    loss = pad(student, [case[1]], beta=1.0, divergence=kind).loss({"lists": 1})
    (gradient,) = torch.autograd.grad(loss, student)
    assert_close(gradient, torch.zeros_like(gradient), atol=1e-9, rtol=0)


def test_both_divergences_curve_alike_at_equality() -> None:
    """Half of the Fisher information of both is 1/4: second differences agree."""
    base, step = vector(0.3, -0.2, 0.5), vector(1e-3, -2e-3, 5e-4)
    p, q = log_distribution(base), log_distribution(base + step)
    assert divergence(p, q, "code").item() == pytest.approx(divergence(p, q, "js").item(), rel=1e-2)


def test_two_responses() -> None:
    (win, lose), (t_1, t_2), beta = (-0.7, -1.1), (-0.2, -0.9), 3.0
    vpd = pad([[win, lose]], [[t_1, t_2]], beta=beta, divergence="vpd").per_edge.item()
    simpo = rather.loss("simpo", [vector(win)], [vector(lose)], beta=beta, gamma=0.0).loss.item()
    assert vpd == pytest.approx(simpo, abs=1e-12)
    js = pad([[win, lose]], [[t_1, t_2]], beta=beta).per_edge.item()
    p, q = (1 / (1 + math.exp(-beta * (a - b))) for a, b in ((win, lose), (t_1, t_2)))

    def kl(a: float, b: float) -> float:
        return a * math.log(a / b) + (1 - a) * math.log((1 - a) / (1 - b))

    m = (p + q) / 2
    assert js == pytest.approx((kl(p, m) + kl(q, m)) / 2, abs=1e-12)


def test_the_first_place_is_a_softmax() -> None:
    scores = vector(0.4, -0.3, 1.2, 0.0)
    first = [log_distribution(scores).exp()[orders(4)[:, 0] == i].sum().item() for i in range(4)]
    assert first == pytest.approx(scores.softmax(0).tolist(), abs=1e-12)


def test_ends_of_the_scale() -> None:
    student, teacher = [[0.1, 0.3, 0.2]], [[1.0, 2.0, 3.0]]
    assert pad(student, teacher, beta=1e-9).per_edge.item() == pytest.approx(0.0, abs=1e-9)
    p = log_distribution(vector(*student[0]) * 400)
    expected = divergence(p, torch.where(orders(3).eq(torch.tensor([2, 1, 0])).all(1), 0.0, -1e9).double())
    assert pad(student, teacher, beta=400.0).per_edge.item() == pytest.approx(expected.item(), abs=1e-9)


def test_ties_rank_by_position() -> None:
    assert teacher_order(vector(1.0, 2.0, 1.0, 2.0)).tolist() == [1, 3, 0, 2]


def test_likelihood_by_brute_force() -> None:
    scores = [0.3, -0.5, 0.9, 0.1]
    for order in permutations(range(4)):
        ranked = [scores[i] for i in order]
        by_hand = math.prod(math.exp(ranked[k]) / sum(math.exp(x) for x in ranked[k:]) for k in range(4))
        assert log_likelihood(vector(*ranked)).exp().item() == pytest.approx(by_hand, rel=1e-12)


@given(st.integers(0, 2**62), st.integers(1, 12), st.integers(2, 5))
def test_groups_are_even_and_hold_everything(key: int, n: int, size: int) -> None:
    parts = partition(key, n, size)
    assert sorted(i for part in parts for i in part) == list(range(n))
    assert max(map(len, parts)) <= size
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert [part.tolist() for part in partition(key, n, size)] == [part.tolist() for part in parts]


def test_groups_depend_on_the_comparison_alone() -> None:
    student = [[-0.1 * k for k in range(7)], [-0.2 * k * k for k in range(5)]]
    teacher = [[0.3 * k % 1.1 for k in range(7)], [float(k) for k in range(5)]]
    both = pad(student, teacher, group_size=3).per_edge
    assert both[0].item() == pytest.approx(pad(student[:1], teacher[:1], group_size=3).per_edge.item(), abs=1e-12)


def test_lone_and_undecided_responses_cost_nothing() -> None:
    out = pad([[-0.4], [-0.2, -0.9]], [[1.0], [0.5, 0.5]], beta=1.0)
    assert out.terms[0].values.tolist() == [0.0, 0.0]
    assert out.per_edge[0].item() == 0.0


def test_extremes_are_finite_in_float32() -> None:
    layout = Layout.of([Comparison("a", "", ("",) * 4, (Edge(0, 1),), scores=(1e4, -1e4, 0.0, 5.0))], [1] * 4)
    for kind in ("js", "code", "vpd"):
        elements = torch.tensor([-1e4, -1.0, -1e4, 0.0]).requires_grad_()
        out = get("pad").objective(divergence=kind)(Scores(elements, torch.arange(4)), None, layout)
        (gradient,) = torch.autograd.grad(out.loss(layout.counts()), elements)
        assert torch.isfinite(out.per_edge).all() and torch.isfinite(gradient).all(), kind


@pytest.mark.parametrize("kind", ["js", "code", "vpd"])
def test_gradient_by_finite_differences(kind: str) -> None:
    def loss(student: Tensor) -> Tensor:
        return pad(student, [TEACHER, [0.1, 0.3]], beta=2.0, divergence=kind).loss({"lists": 2})

    assert torch.autograd.gradcheck(loss, (vector(*STUDENT, -0.5, -0.6).requires_grad_(),))
