"""Boundary negatives: exact clusters, which edges are kept, and their factors."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rather.data.types import Comparison, Edge
from rather.objectives.parts import Selection
from rather.objectives.scores import Layout
from rather.objectives.selection import BoundaryNegatives, dual_margin_factor, in_top_cluster

quick = settings(max_examples=100, deadline=None)
score = st.integers(-60, 0).map(lambda n: n / 4)
lists = st.lists(score, min_size=1, max_size=9)


def layout_of(sizes: list[int]) -> Layout:
    """Comparisons of one winner (first) and these numbers of losers."""
    comparisons = [
        Comparison(f"c{n}", "", ("",) * (1 + k), tuple(Edge(0, 1 + j) for j in range(k))) for n, k in enumerate(sizes)
    ]
    return Layout.of(comparisons, [1] * sum(1 + k for k in sizes))


def select(win: list[float], lose: list[list[float]], gamma: float = 6.0, **options: bool) -> Selection:
    scores = [value for w, ls in zip(win, lose, strict=True) for value in (w, *ls)]
    layout = layout_of([len(ls) for ls in lose])
    return BoundaryNegatives(gamma, **options)(torch.tensor(scores, dtype=torch.float64), layout)


def cost(cluster: tuple[float, ...]) -> float:
    mean = sum(cluster) / len(cluster)
    return sum((value - mean) ** 2 for value in cluster)


def best_partitions(values: list[float], clusters: int) -> tuple[float, list[tuple[float, ...]]]:
    """Least cost over ALL partitions into intervals of the sorted values, and the highest cluster of each best one."""
    ordered = sorted(values, reverse=True)
    found = []
    for cuts in itertools.combinations(range(1, len(ordered)), min(clusters, len(ordered)) - 1):
        edges = [0, *cuts, len(ordered)]
        parts = [tuple(ordered[a:b]) for a, b in itertools.pairwise(edges)]
        found.append((sum(map(cost, parts)), parts[0]))
    least = min(total for total, _ in found)
    return least, [top for total, top in found if total <= least + 1e-9]


@quick
@given(st.lists(lists, min_size=1, max_size=4), st.integers(2, 4))
def test_the_highest_cluster_is_that_of_a_best_partition(groups: list[list[float]], clusters: int) -> None:
    layout = layout_of([len(group) for group in groups])
    values = torch.tensor([value for group in groups for value in group])
    chosen = in_top_cluster(values, layout, clusters)
    for index, group in enumerate(groups):
        kept = sorted(values[chosen & (layout.edge_list == index)].tolist(), reverse=True)
        bests = best_partitions(group, clusters)[1]
        with_ties = [sorted((v for v in group if v >= min(top)), reverse=True) for top in bests]
        assert kept in with_ties


def test_no_partition_at_all_is_better_than_intervals() -> None:
    """Brute force over every assignment of six values to three clusters, not only intervals."""
    values = [-0.3, -0.9, -2.1, -2.2, -6.0, -6.3]
    least = min(
        sum(
            cost(part) for c in range(3) if (part := tuple(v for v, k in zip(values, assigned, strict=True) if k == c))
        )
        for assigned in itertools.product(range(3), repeat=6)
    )
    assert best_partitions(values, 3)[0] == pytest.approx(least)
    chosen = in_top_cluster(torch.tensor(values), layout_of([6]), 3)
    assert chosen.tolist() == [True, True, False, False, False, False]


def test_far_from_zero_keeps_its_digits() -> None:
    values = torch.tensor([-3.0, -3.4, -8.0, -8.5, -15.0, -15.5, -14.8], dtype=torch.float64)
    layout = layout_of([7])
    assert torch.equal(in_top_cluster(values, layout, 3), in_top_cluster(values - 1e6, layout, 3))
    assert in_top_cluster(values, layout, 3).tolist() == [True, True, *[False] * 5]
    assert in_top_cluster(torch.full((5,), -2.0), layout_of([5]), 3).all()
    assert in_top_cluster(torch.empty(0), layout_of([0, 0]), 3).tolist() == []


def test_edges_of_a_list_need_not_lie_together() -> None:
    first, second = [-1.0, -1.1, -5.0, -9.0], [-2.0, -6.0, -6.1, -11.0]
    mixed = torch.tensor([x for pair in zip(first, second, strict=True) for x in pair])
    layout = layout_of([4, 4])
    mixed_layout = replace(layout, edge_list=torch.tensor([0, 1] * 4))
    apart = in_top_cluster(torch.tensor(first + second), layout, 3)
    together = in_top_cluster(mixed, mixed_layout, 3)
    assert torch.equal(torch.cat([together[0::2], together[1::2]]), apart)


@quick
@given(st.lists(st.tuples(score, lists), min_size=1, max_size=4))
def test_violations_come_first(groups: list[tuple[float, list[float]]]) -> None:
    win, lose = [w for w, _ in groups], [ls for _, ls in groups]
    kept = select(win, lose).kept.tolist()
    for w, ls in groups:
        own, kept = kept[: len(ls)], kept[len(ls) :]
        assert any(own), "something is always at the boundary"
        if any(value >= w for value in ls):
            assert own == [value >= w for value in ls]


@quick
@given(score, lists, st.floats(0, 20))
def test_factors_are_bounded(win: float, lose: list[float], gamma: float) -> None:
    chosen = select([win], [lose], gamma)
    assert (chosen.factor[chosen.kept] >= 0.5 - 1e-12).all()
    assert (chosen.factor[chosen.kept] <= 1 + 0.5 * math.tanh(1) + 1e-12).all()
    rest = [v for v, kept in zip(lose, chosen.kept.tolist(), strict=True) if not kept] or lose
    for value, factor, kept in zip(lose, chosen.factor.tolist(), chosen.kept.tolist(), strict=True):
        below = value - sum(rest) / len(rest)
        if kept and value >= win and below >= 0 and (gamma or below or value > win):
            assert factor <= 1 - 0.5 * math.tanh(1) + 1e-12, "a violation gets the smaller beta"


@quick
@given(score, lists, st.floats(-50, 50).map(lambda x: round(x)), st.permutations(range(9)))
def test_a_constant_and_the_order_do_not_matter(win: float, lose: list[float], shift: int, order: list[int]) -> None:
    plain, moved = select([win], [lose]), select([win + shift], [[value + shift for value in lose]])
    assert torch.equal(plain.kept, moved.kept)
    torch.testing.assert_close(plain.factor, moved.factor)
    order = [place for place in order if place < len(lose)]
    turned = select([win], [[lose[place] for place in order]])
    assert torch.equal(turned.kept, plain.kept[order])
    torch.testing.assert_close(turned.factor, plain.factor[order])


def test_limits_of_the_factor() -> None:
    def factor(above: float, below: float, gamma: float) -> float:
        return dual_margin_factor(torch.tensor([above]), torch.tensor([below]), gamma).item()

    assert factor(0.0, 0.0, 6.0) == 0.5
    assert factor(0.0, 0.0, 0.0) == 1.0
    assert factor(1e-30, 0.0, 6.0) == 0.5
    assert factor(3.0, 1.0, 2.0) == 1.0
    assert factor(5.0, 1.0, 1e9) == 0.5
    assert factor(1e4, 0.0, 6.0) == pytest.approx(1 + 0.5 * math.tanh(1), abs=1e-3)


def test_without_dynamic_beta_every_factor_is_one() -> None:
    assert select([-1.0], [[-2.0, -5.0, -5.5, -9.0]], dynamic_beta=False).factor.tolist() == [1.0] * 4


def test_nothing_carries_gradient() -> None:
    scores = torch.tensor([-1.0, -2.0, -5.0, -5.5, -9.0], requires_grad=True)
    chosen: tuple[Tensor, ...] = BoundaryNegatives()(scores, layout_of([4]))
    assert not any(part.requires_grad for part in chosen)
