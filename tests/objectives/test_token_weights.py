"""Weighted means and the barrier: published arithmetic and invariants (TAB-PO); rules that weigh tokens."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rather.data.types import Comparison, Edge
from rather.methods.registry import get
from rather.methods.tab_po import parse_weights
from rather.objectives.barrier import ConfidenceBarrier
from rather.objectives.element_weights import CarriedWeights, mean_one
from rather.objectives.scores import Layout, Scores
from rather.objectives.token_weights import ByTypeAndDifference, Pieces, differing

SCAFFOLD = (-0.01, -0.02, None, -0.03)


def around(value: float) -> list[float]:
    return [value if x is None else x for x in SCAFFOLD]


# policy and reference of chosen and rejected, weights of both, options; then z, preference, gated tokens, B, total
CASES: dict[str, tuple[Any, ...]] = {
    "A": (
        (around(-1.2), around(-0.9), around(-1.0), around(-1.1)),
        ([1, 1, 1.32, 1], [1, 1, 1.32, 1]),
        {"beta": 0.5, "tau": 0.66, "barrier": 0.5},
        (-0.1222222222, 0.7241694845, 1, 1.2, 1.3241694845),
    ),
    "B": (
        ([-0.1, -0.2, -0.3], [-0.1, -2.0, -0.3], [-0.15, -0.25, -0.35], [-0.1, -1.5, -0.3]),
        ([1, 1.44, 1], [1, 1.44, 1]),
        {"beta": 0.5, "tau": 0.66, "barrier": 0.5},
        (0.2593023256, 0.6304213072, 0, 0.0, 0.6304213072),
    ),
    "C": (
        ([-0.5, -0.7, -0.05, -2.5, -0.01], [-0.5, -0.4], [-0.6, -0.6, -0.05, -2.0, -0.02], [-0.5, -0.45]),
        ([1, 3, 1, 1.5, 1], [1, 3]),
        {"beta": 1.0, "tau": 0.8, "barrier": 0.5},
        (-0.1628333333, 0.7778745289, 3, 1.1545454545, 1.3551472562),
    ),
    "D": (
        ([-0.3], [-1.7], [-0.4], [-1.2]),
        ([5], [2]),
        {"beta": 0.5, "tau": 0.9, "barrier": 1.0},
        (0.6, 0.5543552445, 1, 0.3, 0.8543552445),
    ),
}


def batch(rows: tuple[list[float], ...], weights: tuple[list[float], ...]) -> tuple[Scores, Scores, Layout]:
    lengths = [len(rows[0]), len(rows[1])]
    response = torch.repeat_interleave(torch.arange(2), torch.tensor(lengths))
    policy, reference = (torch.tensor([*a, *b], dtype=torch.float64) for a, b in (rows[:2], rows[2:]))
    weight = torch.tensor([*weights[0], *weights[1]], dtype=torch.float64)
    layout = Layout.of_pairs(torch.tensor(lengths[:1]), torch.tensor(lengths[1:]))
    return Scores(policy, response, {"weight": weight}), Scores(reference, response), layout


@pytest.mark.parametrize("name", list(CASES))
def test_published_values(name: str) -> None:
    rows, weights, options, (z, preference, gated, barrier, total) = CASES[name]
    policy, reference, layout = batch(rows, weights)
    outcome = get("tab_po").objective(**options)(policy, reference, layout)
    assert outcome.margins.item() / options["beta"] == pytest.approx(z, abs=1e-10)
    assert outcome.per_edge.item() == pytest.approx(preference, abs=1e-10)
    term = next(term for term in outcome.terms if term.name == "barrier")
    assert term.values.item() == pytest.approx(barrier, abs=1e-10)
    assert outcome.logged["barrier/gated"].sum().item() == gated
    assert outcome.logged["barrier/gated"].numel() == len(rows[0])
    assert outcome.loss(layout.counts()).item() == pytest.approx(total, abs=1e-10)


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ([1, 1, 1.32, 1], [0.92592593, 0.92592593, 1.22222222, 0.92592593]),
        ([1, 3, 1, 1.5, 1], [0.66666667, 2, 0.66666667, 1, 0.66666667]),
    ],
)
def test_weights_of_mean_one(weights: list[float], expected: list[float]) -> None:
    values = torch.tensor(weights, dtype=torch.float64)
    layout = Layout.of_pairs(torch.tensor([len(weights)]), torch.tensor([0]))
    found = mean_one(values, torch.zeros(len(weights)).long(), layout)
    assert found.tolist() == pytest.approx(expected, abs=1e-8)


tokens = st.lists(st.tuples(*[st.floats(-6, -0.01)] * 2, st.floats(0.2, 5)), min_size=1, max_size=6)


@given(tokens, tokens, st.floats(0.1, 10))
def test_only_ratios_of_weights_count(chosen: list[Any], rejected: list[Any], factor: float) -> None:
    rows = (
        [p for p, _, _ in chosen],
        [p for p, _, _ in rejected],
        [r for _, r, _ in chosen],
        [r for _, r, _ in rejected],
    )
    first, second = [w for *_, w in chosen], [w for *_, w in rejected]
    objective = get("tab_po").objective()
    losses = []
    for scaled in (first, [factor * w for w in first]):
        policy, reference, layout = batch(rows, (scaled, second))
        losses.append(objective(policy, reference, layout).loss(layout.counts()).item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)


@given(tokens, tokens)
def test_equal_weights_without_a_barrier_are_length_normalised_dpo(chosen: list[Any], rejected: list[Any]) -> None:
    rows = (
        [p for p, _, _ in chosen],
        [p for p, _, _ in rejected],
        [r for _, r, _ in chosen],
        [r for _, r, _ in rejected],
    )
    policy, reference, layout = batch(rows, ([2.0] * len(chosen), [3.0] * len(rejected)))
    ours = get("tab_po").objective(beta=0.7, barrier=0.0)(policy, reference, layout).loss(layout.counts())
    theirs = get("dpo_norm").objective(beta=0.7)(policy, reference, layout).loss(layout.counts())
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


@given(tokens)
def test_the_barrier_from_end_to_end(chosen: list[Any]) -> None:
    """tau 0: nothing; tau 1: every token, the weighted mean NLL; between: at least -log tau unless the floor shrinks it."""
    rows = ([p for p, _, _ in chosen], [-1.0], [r for _, r, _ in chosen], [-1.0])
    policy, reference, layout = batch(rows, ([w for *_, w in chosen], [1.0]))
    weight = CarriedWeights()(policy, reference, layout)[: len(chosen)]
    nll = -policy.elements[: len(chosen)]

    def value(tau: float) -> float:
        return ConfidenceBarrier(1.0, tau, CarriedWeights())(policy, reference, layout).values.item()

    assert value(0.0) == 0.0
    assert value(1.0) == pytest.approx(((weight * nll).sum() / max(1.0, float(weight.sum()))).item(), rel=1e-9)
    gated = float(weight[nll > -math.log(0.5)].sum())
    if gated >= 1:
        assert value(0.5) >= math.log(2) - 1e-9
    elif gated == 0:
        assert value(0.5) == 0.0
    else:
        assert value(0.5) >= gated * math.log(2) - 1e-9


def test_the_gate_is_strict_and_of_the_raw_probability() -> None:
    """In the number type of the scores: a token exactly at the threshold is sure."""
    for dtype in (torch.float32, torch.float64):
        at = torch.tensor(0.66, dtype=dtype).log()
        elements = torch.stack([at, torch.nextafter(at, at - 1), at / 2])
        policy = Scores(elements, torch.tensor([0, 0, 1]), {"weight": torch.tensor([9.0, 1.0, 1.0])})
        layout = Layout.of_pairs(torch.tensor([2]), torch.tensor([1]))
        term = ConfidenceBarrier(1.0, 0.66)(policy, None, layout)
        assert term.metrics["gated"].tolist() == [0.0, 1.0]


def test_gradients_of_the_barrier_and_of_the_preference() -> None:
    rows, weights, options, _ = CASES["C"]
    policy, reference, layout = batch(rows, weights)

    def loss(elements: Tensor, **more: Any) -> Tensor:
        given_options = {**options, **more}
        scores = Scores(elements, policy.response, policy.extras)
        return get("tab_po").objective(**given_options)(scores, reference, layout).loss(layout.counts())

    elements = policy.elements.requires_grad_()
    assert torch.autograd.gradcheck(loss, (elements,))
    (whole,) = torch.autograd.grad(loss(elements), elements)
    (alone,) = torch.autograd.grad(loss(elements, barrier=0.0), elements)
    barrier = whole - alone
    assert barrier.abs().gt(1e-12).tolist() == [True, True, False, True, False, False, False]
    z = get("tab_po").objective(**options)(policy, reference, layout).margins / options["beta"]
    share = mean_one(policy.extras["weight"], policy.response, layout) / layout.lengths[policy.response]
    sign = torch.tensor([-1.0] * 5 + [1.0] * 2, dtype=torch.float64)
    torch.testing.assert_close(alone, sign * options["beta"] * torch.sigmoid(-options["beta"] * z) * share)


def test_at_the_reference_the_preference_is_log_two() -> None:
    rows, weights, options, _ = CASES["C"]
    policy, _, layout = batch(rows, weights)
    assert get("tab_po").objective(**options)(policy, policy, layout).per_edge.item() == pytest.approx(math.log(2))


def test_tokens_without_weights_count_as_one() -> None:
    rows, weights, options, _ = CASES["C"]
    policy, reference, layout = batch(rows, weights)
    bare = Scores(policy.elements, policy.response)
    ones = Scores(policy.elements, policy.response, {"weight": torch.ones(7)})
    objective = get("tab_po").objective(**options)
    assert torch.equal(objective(bare, reference, layout).per_edge, objective(ones, reference, layout).per_edge)


# Rules


def letters(text: str) -> Pieces:
    """Every character a token."""
    at = np.arange(len(text))
    return Pieces(text, True, np.array([ord(char) for char in text]), at, at + 1)


def pair(chosen: str, rejected: str) -> tuple[Comparison, list[Pieces]]:
    return Comparison("x", "p", (chosen, rejected), (Edge(0, 1),)), [letters(chosen), letters(rejected)]


def test_values_are_weighted_where_they_stand() -> None:
    text = json.dumps({"Code": "ab", "Sub-code": "c", "Span": "ab c", "other": "ab"})
    comparison, pieces = pair(text, text)
    weights = {"code": 2.0, "Subcode": 3.0, "Span": 1.5}
    (found, _) = ByTypeAndDifference(weights)(comparison, pieces)
    heavy = [(text[i], float(w)) for i, w in enumerate(found) if w != 1]
    assert heavy == [("a", 2), ("b", 2), ("c", 3), ("a", 1.5), ("b", 1.5), (" ", 1.5), ("c", 1.5)]
    (everywhere, _) = ByTypeAndDifference(weights, occurrences="everywhere")(comparison, pieces)
    span = text.index("ab c")
    assert everywhere[span : span + 4].tolist() == [2, 2, 1.5, 3]
    (rest, _) = ByTypeAndDifference({**weights, "*": 7.0})(comparison, pieces)
    assert [text[i] for i, w in enumerate(rest) if w == 7] == ["a", "b"]


def test_differences_multiply_on_both_sides() -> None:
    chosen, rejected = '{"Code": "ab"}', '{"Code": "xb"}'
    comparison, pieces = pair(chosen, rejected)
    found = ByTypeAndDifference({"Code": 1.1}, difference=1.2)(comparison, pieces)
    at = chosen.index("ab")
    for weights in found:
        assert weights[at : at + 2].tolist() == pytest.approx([1.32, 1.1])
        assert np.delete(weights, [at, at + 1]).tolist() == [1.0] * (len(chosen) - 2)


@given(st.text("ab", max_size=12), st.text("ab", max_size=12))
def test_differences_by_position_and_by_alignment(one: str, other: str) -> None:
    a, b = (np.array([ord(c) for c in text]) for text in (one, other))
    first, second = differing(a, b, "position")
    both = min(len(one), len(other))
    assert first.tolist() == [i < both and one[i] != other[i] for i in range(len(one))]
    assert second[:both].tolist() == first[:both].tolist()
    assert not second[both:].any()
    first, second = differing(a, b, "difflib")
    assert a[~first].tolist() == b[~second].tolist(), "what is left matches in order"


def test_an_insertion_shifts_positions_and_not_alignments() -> None:
    chosen, rejected = (np.array([ord(c) for c in text]) for text in ("abcdefgh", "xabcdefgh"))
    assert differing(chosen, rejected, "position")[0].all()
    first, second = differing(chosen, rejected, "difflib")
    assert not first.any()
    assert second.tolist() == [True] + [False] * 8


def test_a_token_that_differs_in_two_edges_counts_once() -> None:
    comparison = Comparison("x", "p", ("ab", "xb", "yb"), (Edge(0, 1), Edge(0, 2)))
    found = ByTypeAndDifference({}, difference=2.0)(comparison, [letters(t) for t in comparison.responses])
    assert [w.tolist() for w in found] == [[2, 1]] * 3


def test_the_datas_own_weights_come_first() -> None:
    text = '{"Code": "ab"}'
    at = text.index("ab")
    comparison = Comparison("x", "p", (text, text), (Edge(0, 1),), extras={"spans": [[[at, at + 1, 5.0]], []]})
    found, _ = ByTypeAndDifference({"Code": 2.0})(comparison, [letters(text)] * 2)
    assert found[at : at + 2].tolist() == [5.0, 2.0]


@pytest.mark.parametrize("text", ["Code", "Code=", "Code=x", "=2", "Code=0", "Code=-1", "Code=inf", "Code=nan"])
def test_weights_that_cannot_be_read(text: str) -> None:
    with pytest.raises(ValueError, match="value_weights"):
        parse_weights(text)
    from rather.errors import UserError

    with pytest.raises(UserError, match="value_weights"):
        get("tab_po").configure({"value_weights": text})


def test_weights_that_can_be_read() -> None:
    assert parse_weights(" Code=1.1, a=b=2 ,*=3,") == {"Code": 1.1, "a=b": 2.0, "*": 3.0}
    assert parse_weights("") == {}
    objective = get("tab_po").objective(weights="none")
    assert objective.weigh is None
    assert isinstance(get("tab_po").objective().weigh, ByTypeAndDifference)
