"""Denoising scores against the formula, and draws that depend on nothing but seed and example."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rather.data.types import Comparison, Edge
from rather.errors import UserError
from rather.methods.registry import get
from rather.objectives.scores import stable_key
from rather.policies.base import Batch
from rather.policies.counter_random import integers, normals, philox
from rather.policies.denoising import DenoisingDraw, denoising_scores
from rather.policies.points import PointDenoiser, PointsPolicy
from rather.policies.registry import open_policy
from rather.policies.schedule import NoiseSchedule, ddim
from rather.policies.settings import PolicySettings
from rather.training.preflight import check_policy
from rather.worlds.points.pairs import PointsOptions, load_pairs

PAIRS = load_pairs(PointsOptions(pairs=12))


@pytest.fixture
def policy() -> PointsPolicy:
    torch.manual_seed(0)
    return PointsPolicy(PointDenoiser())


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [  # known answers published with the Random123 library for philox4x32, 10 rounds
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((2**32 - 1,) * 4, (2**32 - 1,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_known_answers(counter: tuple[int, ...], key: tuple[int, int], expected: tuple[int, ...]) -> None:
    assert philox(np.array(counter, np.uint64), key).tolist() == list(expected)


def test_normals_are_standard_and_independent() -> None:
    found = normals(3, np.arange(500), stream=1, size=401)
    assert found.shape == (500, 401)
    deviation = 1 / math.sqrt(found.size)
    assert abs(found.mean()) < 4 * deviation
    assert abs(found.var() - 1) < 4 * math.sqrt(2) * deviation
    assert abs((found**4).mean() - 3) < 4 * math.sqrt(96) * deviation
    assert abs((found[:, 1:] * found[:, :-1]).mean()) < 4 * deviation
    assert abs((found[1:] * found[:-1]).mean()) < 4 * deviation
    assert abs((found * normals(3, np.arange(500), 2, 401)).mean()) < 4 * deviation  # another stream
    assert abs((found * normals(4, np.arange(500), 1, 401)).mean()) < 4 * deviation  # another seed


def test_normals_extend_without_change() -> None:
    keys = np.array([5, 2**62])
    assert np.array_equal(normals(1, keys, 0, 3), normals(1, keys, 0, 16)[:, :3])


def test_timesteps_are_uniform() -> None:
    found = np.bincount(integers(0, np.arange(20_000), 0, 10), minlength=10)
    assert found.sum() == 20_000
    assert ((found - 2000) ** 2 / 2000).sum() < 27.9  # chi square, 9 degrees of freedom, p = 0.001


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(12)), st.integers(1, 12), st.integers(0, 2**63 - 1))
def test_draw_does_not_depend_on_neighbours(order: list[int], size: int, seed: int) -> None:
    policy = PointsPolicy(PointDenoiser())
    encoded = policy.encode(PAIRS)
    whole = policy.draw(policy.collate(encoded), seed)
    some = policy.draw(policy.collate([encoded[i] for i in order[:size]]), seed)
    rows = torch.tensor([2 * i + end for i in order[:size] for end in (0, 1)])
    assert torch.equal(some.timestep, whole.timestep[rows])
    assert torch.equal(some.target, whole.target[rows])


def test_draw_is_shared_inside_a_comparison_and_differs_between_them(policy: PointsPolicy) -> None:
    three = Comparison("list", 1, ((0.0, 1.0), (0.5, 0.5), (1.0, 0.0)), (Edge(0, 1), Edge(0, 2)))
    batch = policy.collate(policy.encode([PAIRS[0], three]))
    draw = policy.draw(batch, 7)
    assert batch.layout.prompt.tolist() == [0, 0, 1, 1, 1]
    assert draw.target[2].equal(draw.target[3]) and draw.target[2].equal(draw.target[4])
    assert draw.timestep[2] == draw.timestep[4]
    assert not draw.target[0].equal(draw.target[2])
    assert not policy.draw(batch, 8).target.equal(draw.target)


def test_score_is_the_formula_in_float64(policy: PointsPolicy) -> None:
    network = policy.network.double()
    batch = policy.collate(policy.encode(PAIRS))
    batch = Batch(batch.layout, {**batch.inputs, "latents": batch.inputs["latents"].double()}, batch.ids)
    draw = policy.draw(batch, 11)
    scores = policy.score(network, batch, draw)
    assert scores.elements.dtype == torch.float64
    betas = [(0.00085**0.5 + (0.012**0.5 - 0.00085**0.5) * s / 999) ** 2 for s in range(1000)]
    key = np.array([stable_key(PAIRS[4].id)])
    for response, point in enumerate(PAIRS[4].responses):
        time = int(integers(11, key, 0, 1000)[0])
        noise = normals(11, key, 1, 2).astype(np.float32).astype(np.float64)[0]
        share = math.prod(1 - beta for beta in betas[: time + 1])
        clean = np.array(point, np.float32).astype(np.float64)
        noisy = math.sqrt(share) * clean + math.sqrt(1 - share) * noise
        with torch.no_grad():
            predicted = network(torch.tensor(noisy)[None], torch.tensor([time]), torch.tensor([PAIRS[4].prompt]))
        expected = -0.5 * (predicted[0].numpy() - noise) ** 2
        found = scores.elements[scores.response == 8 + response].detach().numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_mean_reduction_gives_the_published_loss(policy: PointsPolicy) -> None:
    """-log sigma(-beta/2 ((m_w - r_w) - (m_l - r_l))) with mean squared errors m, r over the elements."""
    batch = policy.collate(policy.encode(PAIRS))
    draw = policy.draw(batch, 2)
    torch.manual_seed(1)
    other = PointDenoiser()
    own, reference = (policy.score(n, batch, draw) for n in (policy.network, other))
    m, r = (-2 * s.elements.reshape(-1, 2, 2).mean(-1) for s in (own, reference))
    logit = -0.5 * 200 * ((m[:, 0] - r[:, 0]) - (m[:, 1] - r[:, 1]))
    expected = torch.nn.functional.softplus(-logit).mean()
    counts = batch.layout.counts()
    by_idea = get("diffusion_dpo").objective(beta=200.0)(own, reference, batch.layout).loss(counts)
    as_dpo = get("dpo").objective(beta=200.0, reduce="mean")(own, reference, batch.layout).loss(counts)
    on_sums = get("dpo").objective(beta=100.0)(own, reference, batch.layout).loss(counts)
    torch.testing.assert_close(by_idea, expected, rtol=1e-5, atol=1e-6)
    assert by_idea.equal(as_dpo)
    torch.testing.assert_close(on_sums, expected, rtol=1e-5, atol=1e-6)


def test_gradient_of_the_score_matches_finite_differences() -> None:
    target = torch.randn(3, 2, dtype=torch.float64)
    predicted = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p: denoising_scores(p, target).elements, (predicted,))


def test_low_precision_is_widened() -> None:
    scores = denoising_scores(torch.ones(2, 3, 4, dtype=torch.bfloat16), torch.zeros(2, 3, 4))
    assert scores.elements.dtype == torch.float32
    assert scores.response.tolist() == [0] * 12 + [1] * 12


@pytest.mark.parametrize("prediction", ["epsilon", "velocity"])
def test_schedule_splits_what_it_mixed(prediction: str) -> None:
    schedule = replace(NoiseSchedule.stable_diffusion(), prediction=prediction)
    clean, noise = torch.randn(8, 3, 2, 2, dtype=torch.float64), torch.randn(8, 3, 2, 2, dtype=torch.float64)
    timestep = torch.tensor([0, 1, 10, 100, 400, 700, 998, 999])
    noisy = schedule.noised(clean, noise, timestep)
    found = schedule.split(schedule.target(clean, noise, timestep), noisy, timestep)
    torch.testing.assert_close(found, (clean, noise))
    assert schedule.alpha_bar[[0, -1]].tolist() == pytest.approx([0.99915, 0.004660], rel=1e-3)


def test_ddim_with_the_exact_noise_model_draws_the_gaussian() -> None:
    """For data N(mean, s^2) the best noise prediction is known; DDIM then maps the start to the data's distribution."""
    schedule, mean, spread = NoiseSchedule.stable_diffusion(), 1.5, 0.12

    def exact(x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        signal, sigma = schedule.coefficients(timestep, x)
        return sigma * (x - signal * mean) / (signal**2 * spread**2 + sigma**2)

    start = torch.from_numpy(normals(0, np.arange(4000), 0, 1))
    found = ddim(schedule, exact, start, steps=200)
    assert float(found.mean()) == pytest.approx(mean, abs=0.02)
    assert float(found.std()) == pytest.approx(spread, rel=0.1)


def test_a_draw_of_ones_own_is_accepted(policy: PointsPolicy) -> None:
    """Methods differ in the draw alone: each response may have its own noise and timestep."""
    batch = policy.collate(policy.encode(PAIRS[:1]))
    clean, noise, timestep = batch.inputs["latents"], torch.tensor([[1.0, 0.0], [0.0, -1.0]]), torch.tensor([3, 900])
    own = DenoisingDraw.of(policy.schedule, clean, noise, timestep)
    swapped = DenoisingDraw.of(policy.schedule, clean, noise.flip(0), timestep.flip(0))
    first, second = (policy.score(policy.network, batch, d).elements for d in (own, swapped))
    assert not first.allclose(second)


def test_methods_that_need_probabilities_refuse_a_denoising_bound(policy: PointsPolicy) -> None:
    for name in ("orpo", "sft", "dpo", "ipo", "rdpo", "diffusion_dpo"):
        method = get(name)
        if "likelihood" in method.needs or "tokens" in method.needs:
            with pytest.raises(UserError, match=name):
                check_policy(method, policy.kind, policy.provides)
        else:
            check_policy(method, policy.kind, policy.provides)
    assert "likelihood" in get("orpo").needs


def test_rows_that_are_no_points_are_left_out_and_named(policy: PointsPolicy) -> None:
    bad = [
        Comparison("text", "hello", ("a", "b"), (Edge(0, 1),)),
        Comparison("prompt", 4, ((0.0, 1.0), (1.0, 0.0)), (Edge(0, 1),)),
        Comparison("shape", 1, ((0.0, 1.0), (1.0,)), (Edge(0, 1),)),
        Comparison("nan", 1, ((0.0, 1.0), (math.nan, 0.0)), (Edge(0, 1),)),
    ]
    encoded = policy.encode([*bad, PAIRS[0]])
    assert [e.comparison.id for e in encoded] == [PAIRS[0].id]
    assert sum(policy.report.dropped.values()) == 4
    assert [row for row, _ in policy.report.dropped_rows] == ["text", "prompt", "shape", "nan"]


def test_fingerprint_follows_the_weights(policy: PointsPolicy) -> None:
    same = PointsPolicy(policy.network)
    assert same.fingerprint() == policy.fingerprint()
    with torch.no_grad():
        policy.network.leave.bias[1] += 1e-3
    assert PointsPolicy(policy.network).fingerprint() != same.fingerprint()


def test_unknown_toys_and_settings_are_named() -> None:
    for model, lora, words in (
        ("toy:pionts", False, "did you mean 'points'"),
        ("toy:points?sead=1", False, "did you mean 'seed'"),
        ("toy:points", True, "--lora"),
        ("toy:points?weights=/nowhere", False, "no /nowhere/model.safetensors"),
    ):
        with pytest.raises(UserError, match=words):
            open_policy(PolicySettings(model=model, lora=lora))
