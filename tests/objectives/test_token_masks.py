"""Masks on token rewards and divergences: published arithmetic, reductions, gradients (SparsePO, MaPO, TDPO)."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from rather.methods.registry import get
from rather.objectives.base import Objective, wanted
from rather.objectives.scores import Layout, Scores
from rather.objectives.token_kl import TokenReward
from rather.objectives.token_masks import ActivationMask, LearnedMask, min_max

BETA = 0.8
POLICY = [[(0.7, 0.2, 0.1), (0.3, 0.3, 0.4)], [(0.1, 0.6, 0.3), (0.25, 0.5, 0.25)]]
REFERENCE = [[(0.5, 0.3, 0.2), (0.4, 0.4, 0.2)], [(0.2, 0.5, 0.3), (0.3, 0.3, 0.4)]]
TOKENS = [0, 2, 2, 1]
LAYOUT = Layout.of_pairs(torch.tensor([2]), torch.tensor([2]))
RESPONSE = torch.tensor([0, 0, 1, 1])


def vector(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def example(logits: Tensor | None = None) -> tuple[Scores, Scores]:
    """One pair of two tokens over three words; scores and divergences from whole distributions.

    Args:
        logits: [4, 3] of the policy; those of the example when left out.
    """
    of_reference = torch.tensor(REFERENCE, dtype=torch.float64).flatten(0, 1).log()
    logps = (torch.tensor(POLICY, dtype=torch.float64).flatten(0, 1).log() if logits is None else logits).log_softmax(
        -1
    )
    kl = (of_reference.exp() * (of_reference - logps)).sum(-1)
    at = torch.tensor(TOKENS)[:, None]
    states = {"states": torch.eye(4, dtype=torch.float64), "layers": torch.eye(4, dtype=torch.float64)[:, None]}
    return (
        Scores(logps.gather(1, at)[:, 0], RESPONSE, {"kl": kl}),
        Scores(of_reference.gather(1, at)[:, 0], RESPONSE, states),
    )


def masked(reward: Tensor | None, kl: Tensor | None, **options: Any) -> tuple[Objective, list[LearnedMask]]:
    """SparsePO with given masks: weights of a unit for each token on one-hot states. The same tensor is a common mask."""
    common = kl is not None and kl is reward
    options = {"masks": "common" if common else "independent", "reads": "simple_last", "beta": BETA, **options}
    objective = get("sparsepo").objective(mask_on_reward=reward is not None, mask_on_kl=kl is not None, **options)
    objective.eval().prepare({"width": 4, "layers": 1})
    objective.double()
    part = objective.get_submodule("element_values")
    assert isinstance(part, TokenReward)
    found = []
    for mask, values in ((part.reward_mask, reward), (part.kl_mask, kl)):
        if values is not None and isinstance(mask, LearnedMask):
            mask.weight.data, mask.bias.data = values.detach()[None].clone(), torch.zeros(1, dtype=torch.float64)
            found.append(mask)
    return objective, found


def loss_of(objective: Objective, policy: Scores, reference: Scores, layout: Layout = LAYOUT) -> Tensor:
    return objective(policy, reference, layout).loss(layout.counts())


def test_divergences() -> None:
    kl = example()[0].extras["kl"]
    assert kl.tolist() == pytest.approx(
        [0.0920328502338, 0.0915162218494, 0.0474686577150, 0.0894502316067], abs=1e-12
    )


ONES = vector(1, 1, 1, 1)
UNEVEN, UNEVEN_KL = vector(1.5, 0, 0, 2), vector(0.5, 1, 1, 0)


@pytest.mark.parametrize(
    ("reward", "kl", "options", "u", "delta", "expected"),
    [
        (ONES, ONES.clone(), {}, 0.518793793415, -0.0466301827616, 0.492338811083),
        (UNEVEN, UNEVEN_KL, {}, -0.5169428926, -0.0900639892513, 0.878406495871),
        (ONES, 0 * ONES, {}, 0.518793793415, 0.0, 0.507008636087),
        (UNEVEN, UNEVEN_KL, {"l1_reward": 0.001, "l1_kl": 0.002}, -0.5169428926, -0.0900639892513, 0.886906495871),
        (UNEVEN, UNEVEN, {"l1_reward": 0.001, "l1_kl": 0.001}, -0.5169428926, 0.0408511878626, 0.944451736090),
    ],
)
def test_published_order_of_operations(
    reward: Tensor, kl: Tensor, options: dict[str, Any], u: float, delta: float, expected: float
) -> None:
    objective, masks = masked(reward, kl, **options)
    policy, reference = example()
    outcome = objective(policy, reference, LAYOUT)
    assert outcome.margins.item() / BETA == pytest.approx(u - delta, abs=1e-11)
    assert outcome.loss(LAYOUT.counts()).item() == pytest.approx(expected, abs=1e-12)
    assert masks[0](reference, LAYOUT).tolist() == reward.tolist()
    alone, _ = masked(reward, kl, **options, alpha=0.0)
    assert alone(policy, reference, LAYOUT).margins.item() / BETA == pytest.approx(u, abs=1e-11)


def test_masks_of_one_are_tdpo_and_dpo() -> None:
    policy, reference = example()
    ones, _ = masked(ONES, ONES.clone())
    expected = loss_of(get("tdpo").objective(beta=BETA), policy, reference)
    torch.testing.assert_close(loss_of(ones, policy, reference), expected, rtol=1e-13, atol=0)
    for reads in ("simple_all", "simple_last"):
        for masks in ("independent", "common"):
            fresh = get("sparsepo").objective(beta=BETA, reads=reads, masks=masks).eval()
            fresh.prepare({"width": 4, "layers": 1})
            torch.testing.assert_close(loss_of(fresh, policy, reference), expected, rtol=1e-7, atol=0)
    none, _ = masked(ONES, 0 * ONES)
    torch.testing.assert_close(
        loss_of(none, policy, reference),
        loss_of(get("dpo").objective(beta=BETA), policy, reference),
        rtol=1e-13,
        atol=0,
    )


@given(st.lists(st.floats(0.1, 3.0), min_size=12, max_size=12), st.floats(0.2, 4.0))
def test_scaling_both_masks_scales_beta(values: list[float], factor: float) -> None:
    policy, reference = example(vector(*values).reshape(4, 3))
    one, _ = masked(UNEVEN * factor, UNEVEN_KL * factor)
    other, _ = masked(UNEVEN, UNEVEN_KL, beta=BETA * factor)
    torch.testing.assert_close(
        loss_of(one, policy, reference), loss_of(other, policy, reference), rtol=1e-10, atol=1e-12
    )


def gradients(objective: Objective, logits: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    policy, reference = example(logits)
    found = torch.autograd.grad(loss_of(objective, policy, reference), inputs, allow_unused=True)
    return [torch.zeros_like(x) if g is None else g for x, g in zip(inputs, found, strict=True)]


def test_where_the_policy_is_the_reference() -> None:
    """Loss log 2, no gradient to the masks, none through the divergence; the reward's gradient as ever."""
    logits = torch.tensor(REFERENCE, dtype=torch.float64).flatten(0, 1).log().requires_grad_()
    objective, masks = masked(UNEVEN, UNEVEN_KL)
    policy, reference = example(logits)
    assert loss_of(objective, policy, reference).item() == pytest.approx(math.log(2), abs=1e-12)
    to_policy, *to_masks = gradients(objective, logits, [logits, *(p for m in masks for p in m.parameters())])
    assert max(float(g.abs().max()) for g in to_masks) < 1e-12
    dead, _ = masked(0 * ONES, UNEVEN_KL)
    assert float(gradients(dead, logits, [logits])[0].abs().max()) < 1e-12
    assert float(to_policy.abs().max()) > 0.1


def test_a_mask_of_zero_is_log_two_and_teaches_nothing() -> None:
    logits = torch.tensor(POLICY, dtype=torch.float64).flatten(0, 1).log().requires_grad_()
    objective, masks = masked(0 * ONES - 1, 0 * ONES - 1)
    policy, reference = example(logits)
    assert loss_of(objective, policy, reference).item() == math.log(2)
    found = gradients(objective, logits, [logits, *(p for m in masks for p in m.parameters())])
    assert not any(g.any() for g in found), "nor can a dead unit come back"


def test_a_token_with_mask_zero_has_no_reward_gradient() -> None:
    logits = torch.tensor(POLICY, dtype=torch.float64).flatten(0, 1).log().requires_grad_()
    objective, _ = masked(UNEVEN, 0 * ONES)
    (to_policy,) = gradients(objective, logits, [logits])
    assert to_policy.abs().sum(-1).gt(0).tolist() == [True, False, False, True]


@pytest.mark.parametrize("method", ["sparsepo", "tdpo"])
@pytest.mark.parametrize("seed", [0, 1])
def test_gradients_of_policy_and_masks(method: str, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(4, 3, generator=generator, dtype=torch.float64).requires_grad_()
    if method == "sparsepo":
        options = {"l1_reward": 0.1, "l1_kl": 0.2, "beta": BETA, "masks": "common" if seed else "independent"}
        objective = get(method).objective(**options).eval()
        objective.prepare({"width": 4, "layers": 2})
        objective.double()
    else:
        objective = get(method).objective(beta=BETA)
    for parameter in objective.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    names = [name for name, _ in objective.named_parameters()]
    states = torch.randn(4, 2, 4, generator=generator, dtype=torch.float64)

    def loss(logits: Tensor, *values: Tensor) -> Tensor:
        policy, reference = example(logits)
        reference = replace(reference, extras={"layers": states})
        arguments = (policy, reference, LAYOUT)
        outcome = torch.func.functional_call(objective, dict(zip(names, values, strict=True)), arguments)
        return outcome.loss(LAYOUT.counts())

    assert torch.autograd.gradcheck(loss, (logits, *objective.parameters()))


def test_the_second_form_stops_the_divergence_of_the_chosen() -> None:
    logits = torch.tensor(POLICY, dtype=torch.float64).flatten(0, 1).log().requires_grad_()
    policy, reference = example(logits)
    first, second, plain = (
        get("tdpo").objective(beta=BETA, **options) for options in ({}, {"still_chosen": True}, {"alpha": 0.0})
    )
    torch.testing.assert_close(loss_of(first, policy, reference), loss_of(second, policy, reference))
    z = first(policy, reference, LAYOUT).margins
    weight = BETA * torch.sigmoid(-z)
    (kl,) = torch.autograd.grad(example(logits)[0].extras["kl"].sum(), logits)
    to_first, to_second = (gradients(each, logits, [logits])[0] for each in (first, second))
    torch.testing.assert_close((to_first - to_second)[:2], -weight * kl[:2])
    torch.testing.assert_close(to_first[2:], to_second[2:])
    assert wanted(plain) == (frozenset(), frozenset())


def test_mask_of_activations() -> None:
    """Four tokens of one response; features of hook A and hook B, averaged, rescaled, averaged over kinds."""
    a = torch.tensor([[1, 2, 3], [0, 1, -1], [2, 2, 2], [4, 1, 1]], dtype=torch.float64).mean(1)
    b = torch.tensor([[0, 1], [1, 1], [0.5, 0.2], [0.1, 0.1]], dtype=torch.float64).mean(1)
    layout = Layout.of_pairs(torch.tensor([4]), torch.tensor([1]))
    response = torch.tensor([0, 0, 0, 0, 1])
    values = torch.stack([torch.cat([a, vector(7)]), torch.cat([b, vector(7)])], 1)
    scores = Scores(torch.zeros(5), response, {"activations": values})
    mask = ActivationMask()
    mask.prepare({"activations": ("mlp", "attn")})
    assert mask(scores, layout).tolist() == pytest.approx([0.722222222222, 0.5, 0.638888888889, 0.5, 1.0], abs=1e-12)
    mask.prepare({"activations": ("mlp", "mlp")})
    assert mask(scores, layout).tolist() == pytest.approx([0.722222222222, 0.5, 0.638888888889, 0.5, 1.0], abs=1e-12)
    only = ActivationMask()
    only.prepare({"activations": ("mlp",)})
    alone = Scores(torch.zeros(5), response, {"activations": values[:, :1]})
    assert only(alone, layout).tolist() == [1.0, 0.0, 1.0, 1.0, 1.0]
    # Kinds weigh the same, however many hooks they have.
    three = ActivationMask()
    three.prepare({"activations": ("mlp", "attn", "attn")})
    doubled = Scores(torch.zeros(5), response, {"activations": values[:, [0, 1, 1]]})
    torch.testing.assert_close(three(doubled, layout), mask(scores, layout))


@given(
    st.lists(st.lists(st.integers(-5, 5), min_size=1, max_size=6), min_size=1, max_size=4),
    st.floats(0.1, 10),
    st.floats(-5, 5),
)
def test_rescaled_activations(rows: list[list[int]], factor: float, shift: float) -> None:
    """0 and 1 are taken in every response that is not constant; affine rescaling of a hook changes nothing."""
    values = torch.tensor([float(x) for row in rows for x in row], dtype=torch.float64)[:, None]
    index = torch.tensor([i for i, row in enumerate(rows) for _ in row])
    found = min_max(values, index, len(rows))
    for i, row in enumerate(rows):
        mine = found[index == i]
        assert float(mine.max()) == 1.0
        assert float(mine.min()) == (0.0 if len(set(row)) > 1 else 1.0)
    torch.testing.assert_close(min_max(factor * values + shift, index, len(rows)), found, rtol=1e-9, atol=1e-9)
    # As released: standardised over the response, then rescaled.
    if all(len(row) > 1 for row in rows):
        parts = values[:, 0].split([len(row) for row in rows])
        standard = torch.cat([(part - part.mean()) / (part.std() + 1e-12) for part in parts])
        torch.testing.assert_close(min_max(standard[:, None], index, len(rows)), found, rtol=1e-6, atol=1e-6)


class TestLearnedMask:
    @pytest.mark.parametrize("reads", ["simple_all", "simple_last"])
    def test_it_starts_alive_everywhere(self, reads: Any) -> None:
        mask = LearnedMask(reads, bias=1.5)
        mask.prepare({"width": 4, "layers": 3})
        states = 100 * torch.randn(50, 3, 4)
        reference = Scores(torch.zeros(50), torch.zeros(50).long(), {"layers": states, "states": states[:, -1]})
        values = mask(reference, LAYOUT)
        torch.testing.assert_close(values, torch.full((50,), 1.5))
        grads = torch.autograd.grad(values.square().sum(), mask.parameters(), allow_unused=True)
        told = dict(zip([name for name, _ in mask.named_parameters()], grads, strict=True))
        assert told["weight"] is not None and bool(told["weight"].abs().sum(1).gt(0).all())

    def test_it_is_the_equation(self) -> None:
        mask = LearnedMask("simple_all")
        mask.prepare({"width": 4, "layers": 3})
        torch.manual_seed(0)
        for parameter in mask.parameters():
            nn.init.normal_(parameter)
        states = torch.randn(7, 3, 4)
        reference = Scores(torch.zeros(7), torch.zeros(7).long(), {"layers": states})
        assert mask.norm is not None
        inner = torch.relu((mask.norm(states) * mask.weight).sum(-1) + mask.bias)
        torch.testing.assert_close(mask(reference, LAYOUT), torch.relu(inner @ mask.mix))

    def test_dropout_is_for_training_alone_and_seeded(self) -> None:
        mask = LearnedMask("simple_last", dropout=0.5)
        mask.prepare({"width": 2, "layers": 1})
        reference = Scores(torch.zeros(200), torch.zeros(200).long(), {"states": torch.ones(200, 2)})
        drawn = []
        for _ in range(2):
            torch.manual_seed(3)
            drawn.append(mask(reference, LAYOUT))
        assert torch.equal(drawn[0], drawn[1])
        assert set(drawn[0].tolist()) == {0.0, 2.0}
        assert set(mask.eval()(reference, LAYOUT).tolist()) == {1.0}

    def test_states_get_no_gradient(self) -> None:
        mask = LearnedMask("simple_last")
        mask.prepare({"width": 2, "layers": 1})
        states = torch.ones(3, 2, requires_grad=True)
        values = mask(Scores(torch.zeros(3), torch.zeros(3).long(), {"states": states}), LAYOUT)
        assert torch.autograd.grad(values.sum(), states, allow_unused=True)[0] is None


def test_what_is_wanted_of_whom() -> None:
    last = wanted(get("sparsepo").objective(reads="simple_last"))
    assert last == (frozenset({"kl"}), frozenset({"states"}))
    every = wanted(get("sparsepo").objective())
    assert every == (frozenset({"kl"}), frozenset({"layers", "states"}))
    assert wanted(get("mapo_tokens").objective())[1] == {"activations", "states"}
    assert wanted(get("sparsepo").objective(mask_on_reward=False, alpha=0.0)) == (frozenset(), frozenset())


def test_what_is_logged() -> None:
    objective, _ = masked(UNEVEN, UNEVEN_KL)
    policy, reference = example()
    logged = {
        name: values.double().mean().item() for name, values in objective(policy, reference, LAYOUT).logged.items()
    }
    assert logged.pop("kl/token") == pytest.approx(policy.extras["kl"].mean().item())
    assert logged == {"mask/reward": 0.875, "mask/reward_zero": 0.5, "mask/kl": 0.625, "mask/kl_zero": 0.25}


def test_labels_that_may_be_wrong() -> None:
    """Flip correction over masked rewards: the same identity as over plain ones."""
    policy, reference = example()
    plain, _ = masked(UNEVEN, UNEVEN_KL)
    robust, _ = masked(UNEVEN, UNEVEN_KL, **{"labels.flip_rate": 0.2})
    z = plain(policy, reference, LAYOUT).margins
    expected = torch.nn.functional.softplus(-z) - 0.2 / 0.6 * z
    torch.testing.assert_close(robust(policy, reference, LAYOUT).per_edge, expected)
