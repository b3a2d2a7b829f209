"""Differential information: published values and identities on finite sets."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

import rather
from rather.data.types import Comparison, Edge
from rather.errors import UserError
from rather.inspection import did

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "differential_information.json").read_text())

quick = settings(max_examples=60, deadline=None)
logits = st.lists(st.floats(-6, 6), min_size=2, max_size=7)
three = st.integers(2, 7).flatmap(
    lambda n: st.tuples(*(st.lists(st.floats(-6, 6), min_size=n, max_size=n) for _ in range(3)))
)
mild = st.integers(2, 7).flatmap(
    lambda n: st.tuples(*(st.lists(st.floats(-2, 2), min_size=n, max_size=n) for _ in range(3)))
)
beta_ = st.floats(0.05, 3)


def log(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).log()


def distribution(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).log_softmax(-1)


REFERENCE, TARGET = log(VECTORS["reference"]), log(VECTORS["target"])


def test_distribution_and_entropy() -> None:
    q = did.differential_information(TARGET, REFERENCE)
    assert q.exp().tolist() == pytest.approx(VECTORS["q"], abs=1e-12)
    assert did.entropy(q).item() == pytest.approx(VECTORS["entropy"], abs=1e-12)
    assert did.entropy(q).item() / math.log(4) == pytest.approx(VECTORS["share_of_log"], abs=1e-12)
    peaked = did.differential_information(log(VECTORS["peaked"]["policy"]), torch.zeros(4).double())
    assert did.entropy(peaked).item() == pytest.approx(VECTORS["peaked"]["entropy"], abs=1e-11)
    certain = torch.tensor([0.0, -math.inf])
    assert did.entropy(certain).item() == 0.0


def test_rejected_distribution_and_labels() -> None:
    for beta, expected in VECTORS["rejected"].items():
        assert did.optimal_rejected(TARGET, REFERENCE, float(beta)).exp().tolist() == pytest.approx(
            expected, abs=1e-12
        )
    found = did.preference_probabilities(TARGET, REFERENCE, 0.5)
    assert_close(found, torch.tensor(VECTORS["preferences"], dtype=torch.float64), rtol=0, atol=1e-12)


def test_displacement() -> None:
    assert did.kl_divergence(REFERENCE, TARGET).item() == pytest.approx(VECTORS["kl"], abs=1e-12)
    mean = (REFERENCE.exp() * (TARGET - REFERENCE)).sum().item()
    assert did.displacement(TARGET, REFERENCE).item() == pytest.approx(mean, abs=1e-14)
    assert mean == pytest.approx(-VECTORS["kl"], abs=1e-12)


def margin(distribution: Tensor, win: int, lose: int) -> Tensor:
    return (distribution[win] - distribution[lose])[None]


def test_order_of_margins() -> None:
    def check(rejected: Tensor, win: int, lose: int) -> did.OrderCheck:
        return did.order_check(*(margin(d, win, lose) for d in (TARGET, REFERENCE, rejected)))

    best = check(did.optimal_rejected(TARGET, REFERENCE, 0.5), 3, 0)
    assert best.ordered.all() and best.beta.item() == pytest.approx(0.5, abs=1e-12)
    none = check(TARGET, 3, 0)
    assert not none.ordered.any() and none.beta.item() == pytest.approx(-1.0, abs=1e-12)
    assert math.isnan(none.spread[1])
    case = VECTORS["order"]
    other = check(log(case["rejected"]), *case["pair"])
    assert other.ordered.all() and other.beta.item() == pytest.approx(case["beta"], abs=1e-11)
    turned = check(log(case["rejected"]), *reversed(case["pair"]))
    assert turned.ordered.all() and turned.beta.item() == pytest.approx(case["beta"], abs=1e-11)


def test_estimates_from_samples() -> None:
    case = VECTORS["samples"]
    policy, reference = (torch.tensor(case[name], dtype=torch.float64) for name in ("policy", "reference"))
    for sampler, name in ((policy, "by_policy"), (reference, "by_reference")):
        found = did.estimate_entropy(policy, reference, sampler)
        assert found.entropy.item() == pytest.approx(case[name]["entropy"], abs=1e-10)
        assert found.log_normaliser.item() == pytest.approx(case[name]["log_normaliser"], abs=1e-10)
        assert 1 <= found.ess.item() <= 4


@pytest.mark.parametrize("case", VECTORS["projection"])
def test_projected_gradient(case: dict[str, list[float]]) -> None:
    chosen, rejected = (torch.tensor(case[name], dtype=torch.float64) for name in ("chosen", "rejected"))
    assert (chosen - did.project_rejected(rejected, chosen)).tolist() == pytest.approx(case["direction"], abs=1e-12)
    step = did.projected_direction(chosen, rejected, torch.tensor(0.7, dtype=torch.float64), beta=0.5)
    assert step.tolist() == pytest.approx([0.5 / (1 + math.exp(0.35)) * x for x in case["direction"]], abs=1e-12)


@quick
@given(st.lists(st.floats(-5, 5), min_size=6, max_size=6))
def test_the_projection_never_lowers_the_chosen_likelihood(values: list[float]) -> None:
    chosen, rejected = torch.tensor(values, dtype=torch.float64).chunk(2)
    change = chosen @ (chosen - did.project_rejected(rejected, chosen))
    assert change >= -1e-9
    if rejected @ chosen >= 0:
        assert_close(change, chosen @ chosen, rtol=1e-9, atol=1e-9)


@quick
@given(three)
def test_identities_of_the_distribution(values: tuple[list[float], ...]) -> None:
    a, b, c = (distribution(v) for v in values)
    count = math.log(len(a))
    assert_close(did.entropy(did.differential_information(a, a)), torch.tensor(count, dtype=torch.float64))
    ab, bc, ac, ba = (did.differential_information(*pair) for pair in ((a, b), (b, c), (a, c), (b, a)))
    assert_close((-ab).log_softmax(-1), ba, rtol=1e-9, atol=1e-9)
    assert_close((ab + bc).log_softmax(-1), ac, rtol=1e-9, atol=1e-9)
    assert_close((b + ab).log_softmax(-1), a, rtol=1e-9, atol=1e-9)
    assert_close(did.differential_information(a, torch.zeros_like(a)), a, rtol=1e-9, atol=1e-9)
    assert -1e-12 <= did.jensen_shannon(a, b) <= math.log(2) + 1e-12
    assert_close(did.jensen_shannon(a, b), did.jensen_shannon(b, a))
    assert did.displacement(a, b) <= 1e-12


@quick
@given(three, beta_)
def test_labels_from_the_optimal_rejected_distribution(values: tuple[list[float], ...], beta: float) -> None:
    """Of an unordered pair with one response from ref and one from pi_l, which one is from ref? As p* says."""
    target, reference, _ = (distribution(v) for v in values)
    rejected = did.optimal_rejected(target, reference, beta)
    evidence = did.differential_information(reference, rejected)
    labels = torch.sigmoid(evidence[:, None] - evidence[None, :])
    assert_close(did.preference_probabilities(target, reference, beta), labels, rtol=1e-9, atol=1e-12)
    none = did.optimal_rejected(target, reference, 0.0)
    assert_close(none, reference)
    assert_close(did.preference_probabilities(target, reference, 0.0), torch.full_like(labels, 0.5))


@quick
@given(mild, st.floats(0.1, 1.5))
def test_the_target_is_where_dpo_comes_to_rest(values: tuple[list[float], ...], beta: float) -> None:
    """The population loss of ``dpo`` on those pairs has no gradient at the target, and has one elsewhere."""
    target, reference, other = (distribution(v) for v in values)
    rejected = did.optimal_rejected(target, reference, beta)
    weight = (reference[:, None] + rejected[None, :]).exp().flatten()
    win, lose = (index.flatten() for index in torch.meshgrid(*(torch.arange(len(target)),) * 2, indexing="ij"))

    def slope(at: Tensor) -> Tensor:
        at = at.detach().requires_grad_()
        policy = at.log_softmax(-1)
        out = rather.loss("dpo", policy[win], policy[lose], reference[win], reference[lose], beta=beta, weight=weight)
        return torch.autograd.grad(out.loss * len(win), at)[0]

    assert slope(target).abs().max() < 1e-12
    if (other - target).abs().max() > 0.01:
        assert slope(other).abs().max() > 1e-10


@quick
@given(three)
def test_exchanging_a_pair_leaves_beta(values: tuple[list[float], ...]) -> None:
    target, reference, rejected = (distribution(v) for v in values)
    one, other = (
        did.order_check(*(margin(d, *pair) for d in (target, reference, rejected))) for pair in ((0, 1), (1, 0))
    )
    assert torch.equal(one.ordered, other.ordered)
    if one.beta.isfinite():
        assert_close(one.beta, other.beta)
    else:
        assert not one.ordered, "nothing was learned of this pair"


@quick
@given(three)
def test_enumerating_everything_once_is_exact(values: tuple[list[float], ...]) -> None:
    policy, reference, _ = (distribution(v) for v in values)
    uniform = torch.full_like(policy, -math.log(len(policy)))
    found = did.estimate_entropy(policy, reference, uniform)
    q = did.differential_information(policy, reference)
    assert_close(found.entropy, did.entropy(q), rtol=1e-9, atol=1e-9)
    assert_close(found.log_normaliser, (policy - reference).logsumexp(-1), rtol=1e-9, atol=1e-9)
    assert_close(found.ess, 1 / q.exp().square().sum(), rtol=1e-9, atol=1e-9)


def test_batches_of_prompts() -> None:
    both = torch.stack([TARGET, REFERENCE])
    q = did.differential_information(both, REFERENCE)
    assert did.entropy(q).tolist() == pytest.approx([VECTORS["entropy"], math.log(4)])
    assert did.preference_probabilities(both, REFERENCE, 1.0).shape == (2, 4, 4)
    assert did.estimate_entropy(both, both, both).ess.shape == (2,)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_finite_for_sequences(dtype: torch.dtype) -> None:
    policy, reference = (torch.tensor(v, dtype=dtype) for v in ([-1e4, -2.0, -300.0], [-9e3, -1e4, -280.0]))
    for sampler in (policy, reference):
        found = did.estimate_entropy(policy, reference, sampler)
        assert all(torch.isfinite(x) for x in (found.entropy, found.log_normaliser, found.ess))
    assert torch.isfinite(did.entropy(did.differential_information(policy, reference)))


def test_rejected_responses_are_drawn_from_the_optimal_distribution() -> None:
    pairs = [Comparison(f"p{n}", n % 2, (3, 0, 1), (Edge(0, 1), Edge(0, 2))) for n in range(4000)]
    targets, references = torch.stack([TARGET, REFERENCE]), torch.stack([REFERENCE, TARGET])
    drawn = did.redraw_rejected(pairs, targets, references, 0.5, seed=1)
    assert [c.id for c in drawn] == [c.id for c in pairs]
    assert all(c.responses[0] == 3 and c.edges == pairs[0].edges for c in drawn)
    for prompt, expected in enumerate(did.optimal_rejected(targets, references, 0.5).exp().tolist()):
        counts = Counter(response for c in drawn if c.prompt == prompt for response in c.responses[1:])
        for response, share in enumerate(expected):
            assert counts[response] / 4000 == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 4000))
    assert did.redraw_rejected(pairs, targets, references, 0.5, seed=1) == drawn
    assert did.redraw_rejected(pairs, targets, references, 0.5, seed=2) != drawn
    with pytest.raises(UserError, match="no row of a table of 2"):
        did.redraw_rejected([Comparison("x", 2, (0, 1), (Edge(0, 1),))], targets, references, 0.5, seed=1)
