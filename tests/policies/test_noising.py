"""How latents are noised, against published and hand-derived numbers, and what has to hold whatever the numbers."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import rather
from rather.data.types import Comparison, Edge
from rather.errors import UserError
from rather.policies.inversion import Levels, invert, levels_to
from rather.policies.noising import DenoisingDraw, Forward, Inversion, Noising, Stored
from rather.policies.points import PointDenoiser, PointsPolicy
from rather.policies.schedule import NoiseSchedule, ddim
from rather.policies.timesteps import Timesteps
from rather.worlds.points.pairs import PointsOptions, load_pairs

VALUES: dict[str, Any] = json.loads((Path(__file__).parents[1] / "vectors" / "noising.json").read_text())
PAIRS = load_pairs(PointsOptions(pairs=12))
SCHEDULE = NoiseSchedule.stable_diffusion()


def vector(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def levels(timesteps: Any, alpha_bar: Any, rows: int = 2) -> Levels:
    abar = vector(alpha_bar)[:, None].expand(-1, rows)
    return Levels(torch.tensor(timesteps)[:, None].expand(-1, rows), abar.sqrt(), (1 - abar).sqrt())


def policy_eps(x: Tensor, timestep: Tensor, rows: Tensor | None = None) -> Tensor:
    return 0.40 * x + 0.002 * timestep[:, None].to(x)


def reference_eps(x: Tensor, timestep: Tensor, rows: Tensor | None = None) -> Tensor:
    return 0.35 * x + 0.001 * timestep[:, None].to(x)


@pytest.mark.parametrize("name", VALUES["cases"])
def test_values(name: str) -> None:
    case = VALUES["cases"][name]
    path = levels(*(case.get(key, VALUES[key]) for key in ("timesteps", "alpha_bar")))
    clean = vector([VALUES["winner"], VALUES["loser"]])
    inverter = reference_eps if case.get("inverter") == "reference" else policy_eps
    drawn = vector(case.get("noise", []))
    rule = case.get("rule", {})
    noisy = invert(clean, path, inverter, noise=lambda step: drawn[step].expand(2, 2), **rule)
    tau = (noisy - path.signal[-1][:, None] * clean) / path.sigma[-1][:, None]
    errors = {
        side: (eps(noisy, path.timestep[-1]) - tau).square().mean(1)
        for side, eps in (("policy", policy_eps), ("reference", reference_eps))
    }
    for found, expected in ((noisy, case.get("noisy")), (tau, case.get("tau"))):
        for row, values in zip(found, expected or (), strict=False):
            assert values is None or row.tolist() == pytest.approx(values, abs=6e-11)
    for side, found in errors.items():
        assert side not in case or found.tolist() == pytest.approx(case[side], abs=6e-12)
    scores = [-0.5 * errors[side][end : end + 1] for side in ("policy", "reference") for end in (0, 1)]
    factor = case.get("factor")
    method, given = ("smpo", {"probability": vector([(1 + factor) / 2]), "gain": 1.0}) if factor else ("inpo", {})
    out = rather.loss(method, *scores, beta=20.0, reduce="sum", **given)
    assert (out.margins * (factor or 1)).item() == pytest.approx(case["logit"], abs=6e-12)
    assert out.loss.item() == pytest.approx(case["loss"], abs=6e-12)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.floats(0.01, 0.99), min_size=2, max_size=6, unique=True),
    st.tuples(st.floats(-3, 3), st.floats(-3, 3)),
    st.booleans(),
    st.sampled_from(["current", "next"]),
)
def test_a_constant_field_is_the_noise_itself(
    shares: list[float], field: tuple[float, float], renoise: bool, eval_at: Any
) -> None:
    path = levels(range(len(shares) + 1), [1.0, *sorted(shares, reverse=True)])
    clean = vector([[0.5, -0.2], [3.0, 1.0]])
    noisy = invert(clean, path, lambda x, t, rows: vector(field).expand_as(x), renoise=renoise, eval_at=eval_at)
    expected = path.signal[-1][:, None] * clean + path.sigma[-1][:, None] * vector(field)
    torch.testing.assert_close(noisy, expected, rtol=1e-9, atol=1e-9)


def test_one_step_from_clean_asks_at_either_end() -> None:
    path, clean = levels([0, 50], [1.0, 0.4]), vector([[0.5, -0.2], [-1.0, 0.8]])
    for eval_at, told in (("current", 0), ("next", 50)):
        noisy = invert(clean, path, policy_eps, eval_at=eval_at)  # pyright: ignore[reportArgumentType]
        tau = (noisy - path.signal[-1][:, None] * clean) / path.sigma[-1][:, None]
        torch.testing.assert_close(tau, policy_eps(clean, torch.tensor([told, told])))


def test_renoise_of_a_linear_field_takes_the_mean_of_both_ends() -> None:
    path, clean = levels([0, 1], [0.9, 0.5], rows=1), vector([[1.0, -2.0]])
    noisy = invert(clean, path, lambda x, t, rows: 0.7 * x, renoise=True)

    def step(eps: Tensor) -> Tensor:
        return math.sqrt(0.5) * (clean - math.sqrt(0.1) * eps) / math.sqrt(0.9) + math.sqrt(0.5) * eps

    torch.testing.assert_close(noisy, step(0.7 * (clean + step(0.7 * clean)) / 2))


def test_grid_lands_on_t() -> None:
    timestep = torch.tensor([0, 1, 100, 350, 999])
    path = levels_to(SCHEDULE, timestep, 10)
    assert path.timestep[:, 3].unique().tolist() == [0, 100, 200, 300, 350]
    assert path.timestep[:, 2].unique().tolist() == [0, 100]
    assert path.timestep[-1].equal(timestep)
    assert (path.timestep.diff(dim=0) >= 0).all()
    torch.testing.assert_close(path.signal[-1].square(), SCHEDULE.alpha_bar[timestep])


def test_only_responses_on_their_way_are_asked() -> None:
    asked: list[list[int]] = []

    def spy(x: Tensor, timestep: Tensor, rows: Tensor) -> Tensor:
        asked.append(rows.tolist())
        return policy_eps(x, timestep)

    path, clean = levels_to(SCHEDULE, torch.tensor([0, 150, 400]), 4), vector([[1.0, 0.0]] * 3)
    alone = invert(clean, path, spy)
    assert asked == [[1, 2], [2]]
    asked.clear()
    assert invert(clean, path, spy, lockstep=True).equal(alone)
    assert asked == [[1, 2], [2], [0], [0]]
    assert alone[0].equal(clean[0])


def test_finer_grids_come_back_to_the_clean_latent() -> None:
    """Inversion and DDIM with the same network are inverse in the limit; the error falls towards 0."""
    mean, spread = 1.5, 0.12

    def exact(x: Tensor, timestep: Tensor, rows: Tensor | None = None) -> Tensor:
        signal, sigma = SCHEDULE.coefficients(timestep, x)
        return sigma * (x - signal * mean) / (signal**2 * spread**2 + sigma**2)

    clean = vector([[1.3], [1.5], [1.75]])
    target = torch.full((3,), 999)

    def error(steps: int, **rule: Any) -> float:
        noisy = invert(clean, levels_to(SCHEDULE, target, steps), exact, **rule)
        fine = levels_to(SCHEDULE, target, 999)
        there = Levels(*(side.flip(0) for side in (fine.timestep, fine.signal, fine.sigma)))
        back = invert(noisy, there, exact)  # the same step, from noise to data
        return float((back - clean).square().mean().sqrt())

    coarse, fine, finest = (error(steps) for steps in (20, 100, 500))
    assert fine < coarse / 2
    assert finest < fine / 2
    assert finest < 0.01
    assert error(20, renoise=True, eval_at="next") < coarse


@pytest.mark.parametrize("prediction", ["epsilon", "velocity", "flow"])
def test_a_prediction_of_any_kind_is_inverted_alike(prediction: Any) -> None:
    """A network that predicts the field of one noise, in its own terms, is inverted to that noise."""
    base = NoiseSchedule.rectified_flow() if prediction == "flow" else SCHEDULE
    schedule = NoiseSchedule(base.signal, base.sigma, prediction)
    field, clean = vector([[0.3, -1.2]]), vector([[0.5, -0.2]])

    def told(x: Tensor, timestep: Tensor, rows: Tensor) -> Tensor:
        signal, sigma = schedule.coefficients(timestep, x)
        if prediction == "epsilon":
            return field
        if prediction == "velocity":
            return (field - sigma * x) / signal
        return (field - x) / signal

    levels = levels_to(schedule, torch.tensor([700]), 7)
    noisy = invert(clean, levels, told, prediction=prediction)
    first, last = (vector([schedule.signal[t], schedule.sigma[t]]) for t in (0, 700))
    start = (clean - first[1] * field) / first[0]  # of which the clean latent is taken to be the first noising
    torch.testing.assert_close(noisy, last[0] * start + last[1] * field)


@pytest.fixture
def policy() -> PointsPolicy:
    torch.manual_seed(0)
    return PointsPolicy(PointDenoiser())


RULES = {
    "independent": Forward(shared=False),
    "inversion": Inversion(),
    "renoised": Inversion(steps=4, renoise=True, eval_at="next"),
    "random term": Inversion(eta=0.1),
    "late": Forward(timesteps=Timesteps(earliest=0.5)),
}


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_draw_is_constant_consistent_and_depends_on_no_neighbour(rule: Noising, policy: PointsPolicy) -> None:
    encoded = policy.encode(PAIRS)
    whole = policy.draw(policy.collate(encoded), 3, rule)
    assert not (whole.noisy.requires_grad or whole.target.requires_grad)
    clean = policy.collate(encoded).inputs["latents"]
    torch.testing.assert_close(SCHEDULE.noised(clean, whole.target, whole.timestep), whole.noisy)
    assert whole.timestep.reshape(-1, 2).diff(dim=1).eq(0).all(), "one timestep for a pair"
    some = [7, 2, 11]
    part = policy.draw(policy.collate([encoded[i] for i in some]), 3, rule)
    rows = torch.tensor([2 * i + end for i in some for end in (0, 1)])
    for found, expected in ((part.timestep, whole.timestep), (part.noisy, whole.noisy), (part.target, whole.target)):
        torch.testing.assert_close(found, expected[rows], rtol=1e-5, atol=1e-5)
    again = policy.draw(policy.collate(encoded), 4, rule)
    assert not again.noisy.allclose(whole.noisy)


def test_unshared_noise_differs_in_a_pair(policy: PointsPolicy) -> None:
    batch = policy.collate(policy.encode(PAIRS))
    shared, own = (policy.draw(batch, 1, Forward(shared)).target.reshape(-1, 2, 2) for shared in (True, False))
    assert shared[:, 0].equal(shared[:, 1])
    assert (own[:, 0] != own[:, 1]).all()
    assert own[:, 0].equal(shared[:, 0]), "the first response keeps the comparison's noise"
    assert policy.draw(batch, 1).noisy.equal(policy.draw(batch, 1, Forward()).noisy)


def test_the_network_that_is_given_inverts(policy: PointsPolicy) -> None:
    batch = policy.collate(policy.encode(PAIRS))
    torch.manual_seed(1)
    other = PointDenoiser()
    own, others = (policy.draw(batch, 1, Inversion(), network) for network in (policy.network, other))
    assert own.noisy.equal(policy.draw(batch, 1, Inversion()).noisy)
    assert not own.noisy.allclose(others.noisy)
    calm = Inversion(eta=0.0)
    assert policy.draw(batch, 1, calm).noisy.equal(own.noisy)
    assert not policy.draw(batch, 1, Inversion(eta=0.1)).noisy.allclose(own.noisy)


def with_noise(count: int) -> tuple[list[Comparison], np.ndarray]:
    noise = np.random.default_rng(0).standard_normal((count, 2, 2)).astype(np.float32)
    rows = [
        Comparison(
            f"n{i}", i % 4, ((0.1 * i, 1.0), (0.5, -0.1 * i)), (Edge(0, 1),), extras={"noise": noise[i].tolist()}
        )
        for i in range(count)
    ]
    return rows, noise


def test_stored_noise_is_used_and_its_absence_told(policy: PointsPolicy) -> None:
    rows, noise = with_noise(5)
    flow = PointsPolicy(PointDenoiser(), process="flow")
    batch = flow.collate(flow.encode(rows))
    draw = flow.draw(batch, 2, Stored())
    clean, own = batch.inputs["latents"], torch.from_numpy(noise.reshape(-1, 2))
    share = (draw.timestep[:, None] + 1) / 1000
    torch.testing.assert_close(draw.noisy, (1 - share) * clean + share * own)
    torch.testing.assert_close(draw.target, own - clean)
    with pytest.raises(UserError, match="column `noise`"):
        policy.draw(policy.collate(policy.encode([rows[0], PAIRS[0]])), 2, Stored())
    broken = Comparison("b", 0, ((0.0, 1.0), (1.0, 0.0)), (Edge(0, 1),), extras={"noise": [[1.0, 2.0]]})
    assert not policy.encode([broken])
    assert "stored noise" in str(dict(policy.report.dropped))


def test_flow_values() -> None:
    values, schedule = VALUES["flow"], NoiseSchedule.rectified_flow(10)
    clean, noise = vector([values["clean"]]), vector([values["noise"]])
    timestep = torch.tensor([round(values["share"] * 10) - 1])
    draw = DenoisingDraw.of(schedule, clean, noise, timestep)
    assert draw.noisy[0].tolist() == pytest.approx(values["noisy"])
    assert draw.target[0].tolist() == pytest.approx(values["target"])
    for side, velocity in (("policy", 0.5 * draw.noisy), ("reference", 0.4 * draw.noisy - 0.1)):
        assert float((velocity - draw.target).square().mean()) == pytest.approx(values[side], abs=1e-9)
    at_end = DenoisingDraw.of(schedule, clean, noise, torch.tensor([9]))
    torch.testing.assert_close(at_end.noisy, noise)
    assert at_end.target.equal(draw.target), "the target velocity does not depend on t"


def test_euler_path_adds_up_to_the_noise() -> None:
    """x_T - x_0 is the mean of the velocities along a sampled path, exactly."""
    met: list[Tensor] = []

    def velocity(x: Tensor, timestep: Tensor) -> Tensor:
        met.append(torch.sin(3 * x) - 0.001 * timestep[:, None])
        return met[-1]

    start = vector([[0.3, -1.0], [2.0, 0.5]])
    found = ddim(NoiseSchedule.rectified_flow(), velocity, start, steps=50)
    assert len(met) == 50
    torch.testing.assert_close(start - found, torch.stack(met).mean(0))


def test_a_sample_comes_back_from_its_noise() -> None:
    torch.manual_seed(0)
    flow = PointsPolicy(PointDenoiser(), process="flow")
    prompts = np.arange(6) % 4
    noise = flow.start_noise(6, seed=5)
    assert np.array_equal(flow.points(flow.network, prompts, seed=5), flow.from_noise(flow.network, prompts, noise))


@settings(max_examples=25, deadline=None)
@given(st.floats(0, 0.9), st.floats(0.05, 1), st.sampled_from(["uniform", "logit_normal"]), st.integers(0, 2**63 - 1))
def test_timesteps_keep_to_their_range(earliest: float, width: float, spread: Any, seed: int) -> None:
    latest = min(earliest + width, 1.0)
    found = Timesteps(spread, earliest=earliest, latest=latest)(seed, np.arange(500), 1000)
    assert found.min() >= int(earliest * 1000)
    assert found.max() < max(round(latest * 1000), int(earliest * 1000) + 1)


def test_logit_normal_timesteps_lie_in_the_middle() -> None:
    found = Timesteps("logit_normal", mean=0.5, deviation=0.8)(0, np.arange(20_000), 1000)
    logit = np.log((found + 0.5) / (999.5 - found))
    assert logit.mean() == pytest.approx(0.5, abs=4 * 0.8 / math.sqrt(20_000))
    assert logit.std() == pytest.approx(0.8, rel=0.02)
