"""Telling degrees: published values and identities of the loss, over any method of pairs."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rather.data.types import Auxiliary, Comparison, Edge
from rather.errors import UserError
from rather.methods.registry import get, methods
from rather.objectives.base import Objective
from rather.objectives.degree import DegreeLoss
from rather.objectives.scores import Layout, Scores

WIDTH = 4


def batch(h: float, degrees: list[tuple[int, float, tuple[float, ...], int]], per_response: int = 1) -> Any:
    """A pair with log-ratio margin ``h``, and auxiliary responses (group, sign, mean state, label)."""
    items = [Auxiliary("degree", "x", group=group, sign=sign, label=label) for group, sign, _, label in degrees]
    pair = Comparison("a", "p", ("w", "l"), (Edge(0, 1),)).with_auxiliary(items)
    count = 2 + len(items)
    layout = Layout.of([pair], [per_response] * count)
    response = torch.repeat_interleave(torch.arange(count), layout.lengths)
    states = torch.tensor([(7.0, -3.0, 2.0, 1.0)] * 2 + [state for _, _, state, _ in degrees], dtype=torch.float64)
    sums = torch.tensor([h, *[0.0] * (count - 1)], dtype=torch.float64)
    elements = (sums / per_response)[response].requires_grad_()
    policy = Scores(elements, response, {"states": states[response].clone().requires_grad_()})
    reference = Scores(torch.zeros_like(elements).requires_grad_(), response)
    return policy, reference, layout


def objective(identity: bool = True, method: str = "degree_spo", **options: Any) -> Objective:
    """With a head that passes states through as logits, or as it starts."""
    made = get(method).objective(**options)
    made.prepare({"width": WIDTH})
    if identity:
        with torch.no_grad():
            head(made).weight.copy_(torch.eye(WIDTH))
    return made.double()


def head(made: Objective) -> torch.nn.Linear:
    (found,) = [part.head for part in made.modules() if isinstance(part, DegreeLoss)]
    assert found is not None
    return found


def loss(made: Objective, given: Any) -> Tensor:
    policy, reference, layout = given
    return made(policy, reference if made.needs_reference else None, layout).loss(layout.counts())


CASES = [
    (
        0.9,
        0.1,
        0.5,
        [(0, 0.5, (2, 0.5, -1, 0), 0), (1, 0.5, (0, 0, 0, 0), 3)],
        1.08132032490,
        (0.342349582390, 1.38629436112),
    ),
    (-3.0, 0.5, 1.0, [(0, 0.25, (1, 2, 3, 4), 3), (0, 0.25, (1, 2, 3, 4), 0)], 2.67150812726, (1.94018969856, 0)),
    (4.0, 0.1, 0.1, [(0, 0.5, (100, 0, 0, 0), 0), (1, 0.5, (100, 0, 0, 0), 1)], 5.51301525240, (0, 100)),
]


@pytest.mark.parametrize(("h", "beta", "gamma", "degrees", "total", "sides"), CASES)
@pytest.mark.parametrize("per_response", [1, 3])
def test_published_values(
    h: float, beta: float, gamma: float, degrees: Any, total: float, sides: Any, per_response: int
) -> None:
    given = batch(h, degrees, per_response)
    made = objective(beta=beta, **{"degree.gamma": gamma})
    assert loss(made, given).item() == pytest.approx(total, rel=1e-11)
    (term,) = [term for term in made(*given).terms if term.name == "degree"]
    for side, expected in enumerate(sides):
        mine = [2 * value for value, (group, *_) in zip(term.values.tolist(), degrees, strict=True) if group == side]
        assert sum(mine) == pytest.approx(expected, rel=1e-11, abs=1e-12)


number = st.floats(-20, 20)
state = st.tuples(*[number] * WIDTH)
quick = settings(max_examples=40, deadline=None)


@quick
@given(number, state, state, st.integers(0, 3), st.integers(0, 3), st.floats(0.01, 2))
def test_identities(h: float, one: Any, other: Any, label: int, other_label: int, beta: float) -> None:
    given = batch(h, [(0, 0.5, one, label), (1, 0.5, other, other_label)], 2)
    policy, reference, _ = given
    base = get("dpo").objective(beta=beta)
    plain = loss(base, given)
    without = loss(objective(beta=beta, **{"degree.gamma": 0.0}), given)
    assert without.item() == pytest.approx(plain.item(), rel=1e-13)
    wanted = (policy.elements, policy.extras["states"])
    gradients = torch.autograd.grad(without, wanted)
    assert torch.equal(gradients[0], torch.autograd.grad(plain, policy.elements)[0])
    assert not gradients[1].any()
    degree = [
        loss(objective(beta=b, **{"degree.gamma": 1.0}), given) - loss(get("dpo").objective(beta=b), given)
        for b in (beta, 3 * beta)
    ]
    assert degree[0].item() == pytest.approx(degree[1].item(), abs=1e-9)
    fresh = loss(objective(identity=False, beta=beta, **{"degree.gamma": 1.0}), given)
    assert (fresh - plain).item() == pytest.approx(math.log(4), rel=1e-9)  # a head at zero tells nothing
    (on_reference,) = torch.autograd.grad(degree[0], reference.elements, allow_unused=True, retain_graph=True)
    assert on_reference is None or not on_reference.any()


def test_the_head_reads_its_own_response_alone() -> None:
    policy, reference, layout = batch(1.0, [(0, 0.5, (1, 2, 3, 4), 3), (1, 0.5, (0, 1, 0, 0), 1)], 3)
    made = objective(**{"degree.gamma": 1.0})
    (gradient,) = torch.autograd.grad(loss(made, (policy, reference, layout)), policy.extras["states"])
    compared = layout.compared[policy.response]
    assert not gradient[compared].any() and gradient[~compared].any(dim=1).all()
    term = made.terms[0]
    assert isinstance(term, DegreeLoss)
    pooled = term.pooled(policy, torch.tensor([3, 2]), layout.responses)
    assert pooled.tolist() == [[0, 1, 0, 0], [1, 2, 3, 4]]
    order = torch.randperm(policy.response.numel(), generator=torch.Generator().manual_seed(0))
    moved = Scores(policy.elements[order], policy.response[order], {"states": policy.extras["states"][order]})
    assert torch.equal(term.pooled(moved, torch.tensor([3, 2]), layout.responses), pooled)


def test_gradient_on_the_states() -> None:
    policy, reference, layout = batch(1.0, [(0, 0.5, (1, 2, 3, 4), 3), (1, 0.5, (0, 1, 0, 0), 1)], 2)
    made = objective(**{"degree.gamma": 0.7})

    def of_states(states: Tensor) -> Tensor:
        return loss(made, (Scores(policy.elements, policy.response, {"states": states}), reference, layout))

    assert torch.autograd.gradcheck(of_states, (policy.extras["states"],))


def test_without_graded_responses_the_head_is_still_part_of_the_step() -> None:
    """Wrappers that reduce gradients want one for every parameter."""
    given = batch(1.0, [])
    made = objective(**{"degree.gamma": 1.0})
    loss(made, given).backward()
    assert head(made).weight.grad is not None and not head(made).weight.grad.any()


@pytest.mark.parametrize(
    "base",
    [
        name
        for name, method in methods().items()
        if method.needs <= {"pairs", "lists", "marks", "reference", "likelihood"} and method.name != "degree_spo"
    ],
)
def test_over_any_method_of_pairs(base: str) -> None:
    given = batch(1.0, [(0, 0.5, (1, 2, 3, 4), 3), (1, 0.5, (0, 1, 0, 0), 1)])
    policy, reference, layout = given
    policy = Scores(policy.elements - 2, policy.response, policy.extras)  # odds want log-probabilities
    if "lists" in methods()[base].needs and "pairs" not in methods()[base].needs and not layout.edges:
        pytest.skip("no edges")
    plain = methods()[base].objective()
    plain.prepare({"width": WIDTH})
    made = objective(method=f"{base}+degree_spo", **{"degree.gamma": 2.0})
    both = [loss(one.double().eval(), (policy, reference, layout)).item() for one in (made, plain)]
    term = -math.log(math.exp(4) / sum(math.exp(k) for k in (1, 2, 3, 4))) - math.log(math.e / (math.e + 3))
    assert both[0] - both[1] == pytest.approx(term, rel=1e-9)
    assert made.needs_reference == plain.needs_reference and made.couples_batch == plain.couples_batch


def test_names() -> None:
    assert get("degree_spo").name == "degree_spo" and get("dpo+degree_spo").name == "dpo+degree_spo"
    assert get("ipo+degree_spo").configure({"beta": 0.3, "degree.levels": 3}).beta == 0.3  # type: ignore[attr-defined]
    for wrong, message in (
        ("sft+degree_spo", "no use of pairs"),
        ("dpo+nothing", "no addition"),
        ("dp+degree_spo", "no method 'dp'"),
    ):
        with pytest.raises(UserError, match=message):
            get(wrong)
    with pytest.raises(UserError, match="no list of stop words"):
        get("degree_spo").configure({"degree.language": "klingon"})


def test_other_models_are_refused() -> None:
    policy, reference, layout = batch(1.0, [(0, 0.5, (1, 2, 3, 4), 3)])
    with pytest.raises(UserError, match="needs the hidden states"):
        loss(objective(), (Scores(policy.elements, policy.response), reference, layout))
