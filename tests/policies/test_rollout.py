"""Truncated roll-outs (Self-NPO, arXiv 2505.11777), guidance by a negative model, and merged weights."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rather.data.types import Comparison, Edge
from rather.errors import UserError
from rather.methods.registry import get
from rather.objectives.scores import Layout, Scores
from rather.policies.guidance import Guidance, guided, merged
from rather.policies.points import NULL, PointDenoiser, PointsPolicy
from rather.policies.rollout import RolledOut, SelfRollouts, clean_scores, grid, renoised, roll_out
from rather.policies.schedule import NoiseSchedule, ddim
from rather.training.preflight import check_policy
from rather.worlds.points.pairs import PointsOptions, load_pairs

quick = settings(max_examples=40, deadline=None)
SCHEDULE = NoiseSchedule.preserving((1 - torch.linspace(0.02, 0.2, 20, dtype=torch.float64)).cumprod(0))
START, NOISE = ([0.8, -1.2], [0.5, -0.25])


def vector(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def teacher(excess: float) -> Any:
    return guided(lambda x, t: 0.5 * x + 0.1, lambda x, t: 0.4 * x, excess)


def student(noisy: Tensor, timestep: Tensor) -> Tensor:
    return 0.45 * noisy


def test_the_grid() -> None:
    assert grid(20, 5).tolist() == [3, 7, 11, 15, 19]
    assert grid(1000, 25).tolist() == list(range(39, 1000, 40))


@pytest.mark.parametrize(
    ("index", "count", "excess", "t", "x_t", "target", "x_s", "f", "l2", "huber"),
    [
        (4, 2, 0.0, 11, [1.0294016422, -1.8148744118], [0.8727820502, -1.8741109741], [1.0911784895, -1.4894778079],
         [1.4201897847, -1.9385840057], 0.1519059998, 0.3049447171),
        (4, 2, -1.0, 11, [1.2347638100, -1.8521457150], [1.3423567261, -2.0135350892], [1.2402655060, -1.5165357000],
         None, 0.0377468001, 0.1548109070),
        (1, 5, 0.0, 0, [0.6940030984, -1.1793912697], [0.6371916315, -1.1214085729], [0.8369902997, -1.1796553646],
         None, 0.0083926593, None),
    ],
)  # fmt: skip
def test_values(
    index: int,
    count: int,
    excess: float,
    t: int,
    x_t: Any,
    target: Any,
    x_s: Any,
    f: Any,
    l2: float,
    huber: float | None,
) -> None:
    stopped, timestep = roll_out(
        SCHEDULE, teacher(excess), vector(*START)[None], torch.tensor([index]), torch.tensor([count]), points=5
    )
    assert timestep.tolist() == [t]
    assert stopped[0].tolist() == pytest.approx(x_t, abs=1e-10)
    clean, _ = SCHEDULE.split(teacher(excess)(stopped, timestep), stopped, timestep)
    assert clean[0].tolist() == pytest.approx(target, abs=1e-10)
    noisy = renoised(SCHEDULE, stopped, vector(*NOISE)[None], timestep, timestep + 4)
    assert noisy[0].tolist() == pytest.approx(x_s, abs=1e-10)
    if f:
        found, _ = SCHEDULE.split(student(noisy, timestep), noisy, timestep + 4)
        assert found[0].tolist() == pytest.approx(f, abs=1e-10)
    scores = clean_scores(SCHEDULE, student, RolledOut(timestep + 4, noisy, clean))
    layout = Layout.of([Comparison("x", 0, ((0.0, 0.0),))], [2])

    def loss(**options: Any) -> float:
        return get("self_npo").objective(**options)(scores, None, layout).loss(layout.counts()).item()

    assert loss() == pytest.approx(l2, abs=1e-10)
    if huber is not None:
        assert loss(loss="huber") == pytest.approx(huber, abs=1e-10)


@quick
@given(st.floats(-6, 6), st.floats(-8, 1))
def test_pseudo_huber(d: float, log_c: float) -> None:
    layout, c = Layout.of([Comparison("x", 0, ((0.0,),))], [1]), 10**log_c
    elements = vector(-(d**2) / 2).requires_grad_()
    out = get("self_npo").objective(loss="huber", c=c)(Scores(elements, torch.tensor([0])), None, layout)
    loss = out.loss(layout.counts())
    assert loss.item() == pytest.approx(math.sqrt(d * d + c * c) - c, rel=1e-6, abs=1e-9)
    assert torch.autograd.grad(loss, elements)[0].isfinite().all()
    assert loss.item() <= min(abs(d), d * d / (2 * c)) + 1e-12


@quick
@given(st.integers(0, 19), st.integers(0, 19), st.floats(-2, 2))
def test_noise_is_added_to_noise(t: int, more: int, clean: float) -> None:
    """x_s of an x_t that was noised from a clean value has the mean and the variance of one noised to s."""
    s = min(t + more, 19)
    at, later = torch.tensor([t]), torch.tensor([s])
    zero, one = vector(0.0), vector(1.0)
    alpha, sigma = (float(c) for c in SCHEDULE.coefficients(later, one))
    assert renoised(SCHEDULE, SCHEDULE.noised(vector(clean), zero, at), zero, at, later).item() == pytest.approx(
        alpha * clean
    )
    of_first = renoised(SCHEDULE, SCHEDULE.noised(zero, one, at), zero, at, later).item()
    of_second = renoised(SCHEDULE, zero, one, at, later).item()
    assert of_first**2 + of_second**2 == pytest.approx(sigma**2)
    assert renoised(SCHEDULE, vector(clean), one, at, at).item() == pytest.approx(clean, abs=1e-7)


def test_an_exact_teacher_leaves_nothing_to_learn() -> None:
    """At s = t the student that is the teacher has no error."""
    stopped, timestep = roll_out(
        SCHEDULE, student, vector(*START)[None], torch.tensor([4]), torch.tensor([2]), points=5
    )
    clean, _ = SCHEDULE.split(student(stopped, timestep), stopped, timestep)
    scores = clean_scores(SCHEDULE, student, RolledOut(timestep, stopped, clean))
    assert scores.elements.tolist() == [0.0, 0.0]


def test_each_rolls_out_by_itself() -> None:
    """Samples of a batch start and stop where they are told, whatever the others do."""
    start, index = vector(0.8, -1.2, 0.3, 0.1)[:, None], torch.tensor([4, 1, 3, 0])
    count = torch.tensor([2, 5, 0, 1])
    together = roll_out(SCHEDULE, teacher(0.0), start, index, count, points=5)
    for row in range(4):
        one = slice(row, row + 1)
        alone = roll_out(SCHEDULE, teacher(0.0), start[one], index[one], count[one], points=5)
        assert alone[0].item() == together[0][row].item() and alone[1].item() == together[1][row].item()


@pytest.fixture
def policy() -> PointsPolicy:
    torch.manual_seed(0)
    return PointsPolicy(PointDenoiser())


def other_network(seed: int = 1) -> PointDenoiser:
    torch.manual_seed(seed)
    return PointDenoiser()


@pytest.mark.parametrize("start", ["noise", "data"])
def test_a_draw_is_a_function_of_seed_and_example(policy: PointsPolicy, start: Any) -> None:
    rollouts = SelfRollouts(policy, other_network(), start=start)
    rows = [*load_pairs(PointsOptions(pairs=9)), Comparison("list", 1, ((0.0, 1.0),) * 3, (Edge(0, 1),))]
    encoded = rollouts.encode(rows)
    whole = rollouts.draw(rollouts.collate(encoded), 3)
    some = rollouts.draw(rollouts.collate([encoded[i] for i in (9, 4, 7)]), 3)
    rows_of = torch.tensor([18, 19, 20, 8, 9, 14, 15])
    assert some.timestep.equal(whole.timestep[rows_of])
    torch.testing.assert_close(some.noisy, whole.noisy[rows_of])
    torch.testing.assert_close(some.target, whole.target[rows_of])
    assert len(set(whole.noisy[:, 0].tolist())) == len(whole.noisy), "responses roll out apart"
    assert not rollouts.draw(rollouts.collate(encoded), 4).noisy.equal(whole.noisy)
    assert not whole.target.requires_grad and not whole.noisy.requires_grad


def test_levels_lie_above_where_a_roll_out_stops(policy: PointsPolicy) -> None:
    rows = load_pairs(PointsOptions(pairs=400))
    rollouts = SelfRollouts(policy, other_network())
    found = rollouts.draw(rollouts.collate(rollouts.encode(rows)), 0).timestep
    assert found.min() >= 1 and found.max() <= 999
    assert (found < 200).any() and (found > 900).any()


def test_without_the_prompt_it_does_not_matter(policy: PointsPolicy) -> None:
    """With excess -1 the teacher predicts as if there were no prompt."""
    rows = load_pairs(PointsOptions(pairs=6))
    moved = [Comparison(one.id, (int(one.prompt) + 1) % NULL, one.responses, one.edges) for one in rows]  # type: ignore[arg-type]
    draws = [
        [rollouts.draw(rollouts.collate(rollouts.encode(each)), 0).target for each in (rows, moved)]
        for rollouts in (SelfRollouts(policy, other_network(), excess=excess) for excess in (-1.0, 0.0))
    ]
    torch.testing.assert_close(*draws[0], rtol=1e-3, atol=1e-3)
    assert not torch.allclose(*draws[1], rtol=1e-2, atol=1e-2)


def test_the_teacher_may_follow(policy: PointsPolicy) -> None:
    teacher_network, student_network = other_network(), other_network(2)
    before = copy.deepcopy(teacher_network)
    SelfRollouts(policy, teacher_network).follow(student_network, decay=0.9)
    for moved, was, own in zip(*(n.parameters() for n in (teacher_network, before, student_network)), strict=True):
        torch.testing.assert_close(moved, 0.9 * was + 0.1 * own)


def test_the_student_learns_from_its_draw(policy: PointsPolicy) -> None:
    """The gradient of the loss reaches the student, and a small step against it lowers the loss."""
    rollouts = SelfRollouts(policy, other_network())
    batch = rollouts.collate(rollouts.encode(load_pairs(PointsOptions(pairs=64))))
    draw, objective = rollouts.draw(batch, 0), get("self_npo").objective()
    counts = batch.layout.counts()

    def loss() -> Tensor:
        return objective(rollouts.score(policy.network, batch, draw), None, batch.layout).loss(counts)

    first = loss()
    first.backward()
    norm = sum(float(p.grad.square().sum()) for p in policy.network.parameters() if p.grad is not None)
    with torch.no_grad():
        for parameter in policy.network.parameters():
            if parameter.grad is not None:
                parameter -= 1e-3 * first.detach() / norm * parameter.grad
    assert loss() < first


def test_other_policies_are_refused(policy: PointsPolicy) -> None:
    with pytest.raises(UserError, match="roll-outs of its own"):
        check_policy(get("self_npo"), policy.kind, policy.provides)
    check_policy(get("self_npo"), policy.kind, SelfRollouts.provides)


def test_value_of_guidance() -> None:
    found = guided(lambda x, t: vector(0.3, -0.2), lambda x, t: vector(0.1, 0.4), 6.5)(vector(0.0), vector(0.0))
    assert found.tolist() == pytest.approx([1.6, -4.1], abs=1e-12)


@quick
@given(st.floats(-3, 10))
def test_guidance_by_itself_changes_nothing(omega: float) -> None:
    eps = vector(0.3, -0.2, 1e-30)
    assert guided(lambda x, t: eps, lambda x, t: eps, omega)(eps, eps).equal(eps)
    assert guided(lambda x, t: eps, lambda x, t: eps + 1, 0.0)(eps, eps).equal(eps)


def test_guided_samples(policy: PointsPolicy) -> None:
    prompts, network, negative = np.arange(12) % 4, policy.network, other_network()

    def points(guidance: Guidance | None) -> np.ndarray:
        return policy.points(network, prompts, seed=0, steps=6, guidance=guidance)

    plain = points(None)
    assert np.array_equal(points(Guidance(negative, 0.0)), plain)
    assert np.array_equal(points(Guidance(network, 3.0, same_prompt=True)), plain)
    ordinary, own = points(Guidance(network, 1.0)), points(Guidance(copy.deepcopy(network), 1.0))
    assert np.array_equal(ordinary, own) and not np.array_equal(ordinary, plain)
    start = torch.from_numpy(points_start(prompts)).float()
    shown, null = torch.as_tensor(prompts), torch.full((12,), NULL)
    with torch.no_grad():
        by_hand = ddim(
            policy.schedule, lambda x, t: 3 * network(x, t, shown) - 2 * negative(x, t, null), start, steps=6
        )
    np.testing.assert_allclose(points(Guidance(negative, 2.0)), by_hand.double().numpy(), rtol=1e-3, atol=1e-3)


def points_start(prompts: np.ndarray) -> np.ndarray:
    from rather.policies.counter_random import normals

    return normals(0, np.arange(len(prompts)), 2, 2)


def test_merged_weights() -> None:
    base, positive, negative = ({"w": vector(*v)} for v in ((1, 2), (1.2, 1.7), (0.9, 2.4)))
    assert merged(base, positive, negative, 0.5, 1)["w"].tolist() == pytest.approx([1.0, 2.25])
    assert merged(base, positive, negative)["w"].tolist() == pytest.approx([1.1, 2.1])
    assert merged(base, positive, negative, 0, 0)["w"].equal(base["w"])
    assert merged(base, positive, negative, 1, 0)["w"].tolist() == pytest.approx(positive["w"].tolist())
    with pytest.raises(ValueError, match="same names"):
        merged(base, {}, negative)
