"""DynamicPO over its three bases, and MPPO: published values, gradients, identities."""

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

from rather.data.types import Comparison, Edge
from rather.methods.registry import get
from rather.objectives.preference import Preference
from rather.objectives.scores import Layout, Scores

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "dynamicpo.json").read_text())
CASES = VECTORS["boundary"]

quick = settings(max_examples=60, deadline=None)
score = st.floats(-40, -0.01)
lists = st.integers(2, 9).flatmap(lambda n: st.tuples(*(st.lists(score, min_size=n, max_size=n) for _ in range(2))))
BASES = ("dmpo", "sdpo", "mppo")


def vector(values: list[float], dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor(values, dtype=dtype)


def one_list(count: int) -> Layout:
    edges = tuple(Edge(0, loser) for loser in range(1, count))
    return Layout.of([Comparison("list", "", ("",) * count, edges)], [1] * count)


def loss(method: str, policy: Tensor, reference: Tensor | None = None, **options: Any) -> Tensor:
    objective, layout, response = (
        get(method).objective(**options),
        one_list(policy.numel()),
        torch.arange(policy.numel()),
    )
    of_reference = None if reference is None or not objective.needs_reference else Scores(reference, response)
    return objective(Scores(policy, response), of_reference, layout).loss(layout.counts())


def sides(case: dict[str, Any]) -> tuple[Tensor, Tensor]:
    return vector([case["l_w"], *case["l"]]), vector([case["ref_w"], *case["ref"]])


def selection(policy: Tensor, **options: Any) -> tuple[list[bool], list[float]]:
    objective = get("dynamicpo").objective(**options)
    assert isinstance(objective, Preference)
    assert objective.selection is not None
    chosen = objective.selection(policy, one_list(policy.numel()))
    return chosen.kept.tolist(), chosen.factor.tolist()


@pytest.mark.parametrize("name", CASES)
def test_values(name: str) -> None:
    case = CASES[name]
    policy, reference = sides(case)
    kept, factor = selection(policy, gamma=case["gamma"])
    assert [place for place, one in enumerate(kept) if one] == case["kept"]
    betas = [case["beta"] * factor[place] for place in case["kept"]]
    assert betas == pytest.approx(case["betas"], rel=1e-12)
    for base in BASES:
        if base in case:
            found = loss("dynamicpo", policy, reference, base=base, beta=case["beta"], gamma=case["gamma"])
            # The released S-DPO adds 1e-8 to the sum.
            assert found.item() == pytest.approx(case[base], rel=1e-8 if base == "sdpo" else 1e-12)


def test_what_is_logged_of_the_boundary() -> None:
    """Means over the selected negatives of a violation and of a cluster."""
    for name, share, violation in (("violation", 1 / 4, 1.0), ("cluster", 2 / 7, 0.0)):
        case = CASES[name]
        policy, reference = sides(case)
        layout, response = one_list(policy.numel()), torch.arange(policy.numel())
        outcome = get("dynamicpo").objective()(Scores(policy, response), Scores(reference, response), layout)
        seen = {name.removeprefix("selection/"): values.mean().item() for name, values in outcome.logged.items()}
        assert seen["kept"] == pytest.approx(share)
        assert seen["violation"] == violation
        assert seen["factor"] == pytest.approx(sum(case["betas"]) / len(case["betas"]), rel=1e-6)
        kept = [case["l"][place] for place in case["kept"]]
        rest = [value for place, value in enumerate(case["l"]) if place not in case["kept"]]
        assert seen["above"] == pytest.approx(case["l_w"] - sum(kept) / len(kept))
        assert seen["below"] == pytest.approx(sum(kept) / len(kept) - sum(rest) / len(rest))


def test_gradient_of_a_violation() -> None:
    case = CASES["violation"]
    policy, reference = sides(case)
    policy.requires_grad_()
    (gradient,) = torch.autograd.grad(loss("dynamicpo", policy, reference, beta=1.0, gamma=6.0), policy)
    assert gradient.tolist() == pytest.approx(case["gradient"], rel=1e-12)


def test_mppo() -> None:
    case = VECTORS["mppo"]
    policy = vector([case["l_w"], *case["l"]])
    assert loss("mppo", policy, beta=case["beta"]).item() == pytest.approx(case["loss"], rel=1e-12)
    win, *rest = (math.exp(value) for value in policy.tolist())
    z = 0.7 * (3 * win - sum(rest))
    assert loss("mppo", policy, beta=0.7).item() == pytest.approx(math.log1p(math.exp(-z)), rel=1e-12)


def test_mppo_by_length_takes_the_geometric_mean_over_tokens() -> None:
    layout = Layout.of([Comparison("list", "", ("",) * 2, (Edge(0, 1),))], [2, 3])
    elements, response = vector([-1, -2, -0.5, -1, -3]), torch.tensor([0, 0, 1, 1, 1])
    found = get("mppo").objective(reduce="mean")(Scores(elements, response), None, layout).loss(layout.counts())
    assert found.item() == pytest.approx(math.log1p(math.exp(math.exp(-1.5) - math.exp(-1.5))), rel=1e-12)
    summed = get("mppo").objective()(Scores(elements, response), None, layout).loss(layout.counts())
    assert summed.item() == pytest.approx(math.log1p(math.exp(math.exp(-4.5) - math.exp(-3))), rel=1e-12)


@quick
@given(lists, st.floats(0.1, 2), st.floats(0, 8), st.sampled_from(BASES), st.booleans())
def test_the_gradient_is_that_of_the_loss_at_fixed_betas(
    pair: tuple[list[float], list[float]], beta: float, gamma: float, base: str, dynamic: bool
) -> None:
    """Against the formula with mask and betas as numbers, by autograd; and nothing on the negatives left out."""
    policy, reference = (vector(side) for side in pair)
    policy.requires_grad_()
    options = {"beta": beta, "gamma": gamma, "base": base, "dynamic_beta": dynamic}
    kept, factor = selection(policy.detach(), gamma=gamma, dynamic_beta=dynamic)
    mask, betas = torch.tensor(kept), beta * vector(factor)
    if base == "mppo":
        z = (betas * (policy[0].exp() - policy[1:].exp()))[mask].sum()
    else:
        rho = policy - reference
        margins = (betas * (rho[0] - rho[1:]))[mask]
        z = margins.mean() if base == "dmpo" else -torch.logsumexp(-margins, 0)
    expected = -torch.nn.functional.logsigmoid(z)
    found = loss("dynamicpo", policy, reference, **options)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(one, policy)[0] for one in (found, expected)]
    torch.testing.assert_close(gradients[0], gradients[1])
    assert not gradients[0][1:][~mask].any()


def test_the_gradient_is_that_of_finite_differences_away_from_beta() -> None:
    """Without dynamic beta the selection is constant nearby, so finite differences see the same loss."""
    policy, reference = sides(CASES["cluster"])
    for base in BASES:
        policy = policy.detach().requires_grad_()

        def at(values: Tensor, base: str = base) -> Tensor:
            return loss("dynamicpo", values, reference, base=base, dynamic_beta=False)

        assert torch.autograd.gradcheck(at, (policy,), rtol=1e-5)


@quick
@given(lists, st.floats(0.1, 2))
def test_reductions(pair: tuple[list[float], list[float]], beta: float) -> None:
    policy, reference = (vector(side) for side in pair)
    violated = policy.clone()
    violated[0] = policy.min() - 1  # every loser is a violation: all of them take part
    for base in BASES:
        plain = loss(base, violated, reference, beta=beta)
        all_of = loss("dynamicpo", violated, reference, base=base, beta=beta, dynamic_beta=False)
        torch.testing.assert_close(all_of, plain)
        halved = loss("dynamicpo", violated, reference, base=base, beta=2 * beta, gamma=1e12)
        torch.testing.assert_close(halved, plain, rtol=1e-6, atol=1e-9)


@quick
@given(lists, st.floats(-30, 30))
def test_the_reference_does_not_select(pair: tuple[list[float], list[float]], shift: float) -> None:
    """At equal log-ratios the loss follows the policy's own scores: another reference, another loss, same selection."""
    policy, reference = (vector(side) for side in pair)
    moved = reference.clone()
    moved[0] += shift
    kept, factor = selection(policy)
    betas, mask = vector(factor), torch.tensor(kept)
    for of_reference in (reference, moved):
        rho = policy - of_reference
        z = (betas * (rho[0] - rho[1:]))[mask].mean()
        torch.testing.assert_close(loss("dynamicpo", policy, of_reference), -torch.nn.functional.logsigmoid(z))


@quick
@given(lists, st.randoms(use_true_random=False), st.sampled_from(BASES))
def test_order_of_negatives(pair: tuple[list[float], list[float]], random: Any, base: str) -> None:
    order = list(range(1, len(pair[0])))
    random.shuffle(order)
    policy, reference = (vector(side) for side in pair)
    index = torch.tensor([0, *order])
    plain = loss("dynamicpo", policy, reference, base=base)
    torch.testing.assert_close(loss("dynamicpo", policy[index], reference[index], base=base), plain)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("dynamic", [False, True])
def test_finite_far_out(base: str, dtype: torch.dtype, dynamic: bool) -> None:
    reference = torch.zeros(5, dtype=dtype)
    for low in range(32):
        policy = vector([-1e4 if low >> place & 1 else 0.0 for place in range(5)], dtype).requires_grad_()
        for options in ({"base": base, "dynamic_beta": dynamic}, {"base": base, "labels.gamma": 0.1}):
            found = loss("dynamicpo", policy, reference, **options)
            assert torch.isfinite(found)
            assert torch.isfinite(torch.autograd.grad(found, policy)[0]).all()
