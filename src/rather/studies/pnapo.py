"""PNAPO, arXiv 2605.09433: is a flow aligned faster on the noise that its images were made from?

Claim. For rectified flow, interpolating each image with its own stored noise gives the loss on nearly the model's real
path; with a beta that follows reward gap and progress this needs a twelfth of Diffusion-DPO's compute.

World. A rectified flow of the points of ``world:points``. 8192 pairs of its own samples by Euler's method with 50 steps,
noises stored; the reward is minus the distance to the good mode, a reward gap three times the difference. 200 steps of 256
pairs, Adam at 1e-4.

Arms. DPO with a noise for each image, DPO with one noise in the pair (what Diffusion-DPO's code does), PNAPO with a fixed
beta, PNAPO with its dynamic beta; all at beta = 10 and at 3, without the factor 1/2. As control PNAPO with the fixed beta
that is the mean of its dynamic one.

Verdict. The claim needs: PNAPO with a fixed beta has a higher good rate than DPO with independent noise, at beta = 10; and
the reference's velocity error on its own noise is less than half of that on fresh noise. It falls if DPO with shared
noise, at its best beta, needs no more steps to a good rate of 0.9 than PNAPO at its best. Steps are looked at every tenth
of the run; an arm that does not get there counts as one tenth more than the run.

Noted besides. Whether own noise is better than shared noise at an equal beta; whether the dynamic beta is more than a
smaller one; the signal-to-noise ratio of the gradient at the start.

Our reading: the formulas (no code is released), the world and every number in it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import Field

from rather.data.types import Comparison
from rather.methods.registry import get
from rather.objectives.scales import CosineDecay
from rather.policies.noising import Forward, Stored
from rather.sampling.noise_tracked import noise_tracked_pairs
from rather.studies.base import Criterion, Study
from rather.studies.denoising import base_model
from rather.studies.figure import bars, lines
from rather.studies.noised_points import PointsSettings, Run, errors, sampled
from rather.studies.results import Estimate, Finding, Results, Rows
from rather.worlds.points.truth import GOOD_RADIUS, PROMPTS, directions, rates

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from rather.policies.points import PointsPolicy

_ARMS = ("independent", "shared", "PNAPO", "PNAPO, dynamic", "PNAPO, mean beta")


class Settings(PointsSettings):
    steps: int = Field(200, ge=10, description="steps of alignment")
    batch: int = Field(256, ge=1, description="pairs in a step")
    pairs: int = Field(8_192, ge=4, description="pairs of the base model's samples")
    betas: tuple[float, ...] = Field(
        (10.0, 3.0), description="betas, without the factor 1/2; the first is the paper's arm"
    )
    gap: float = Field(3.0, gt=0, description="reward gap of a unit of distance")
    gradients: int = Field(12, ge=2, description="batches that the signal-to-noise ratio is measured on")


def reward(prompts: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Minus the distance to the good mode."""
    return -np.linalg.norm(points - GOOD_RADIUS * directions(prompts), axis=-1)


def arms(settings: Settings, pairs: Sequence[Comparison], beta: float) -> dict[str, dict[str, Any]]:
    """Arm -> options of pnapo, in the order of ``_ARMS``."""
    decay = CosineDecay()  # with the method's defaults
    decay.plan(settings.steps)
    g = np.mean([decay.factor(step) for step in range(settings.steps)])
    f = np.mean([math.tanh((pair.edges[0].margin or 0.0) / 2) for pair in pairs])
    fixed = {"beta": beta, "gap_weight": False, "decay_floor": 1.0}
    options = (
        {**fixed, "noising.model": "independent"},
        {**fixed, "noising.model": "shared"},
        fixed,
        {"beta": beta},
        {**fixed, "beta": beta * float(f * g)},
    )
    return dict(zip(_ARMS, options, strict=True))


def measure(settings: Settings, policy: PointsPolicy) -> dict[str, float]:
    prompts, points = sampled(settings, policy)
    found = rates(prompts, points)
    return {"good": found.good, "off": found.off, "distance": float(-reward(prompts, points).mean())}


def signal_to_noise(settings: Settings, one: Run) -> float:
    """Of the gradient at the start, over batches: squared norm of the mean over mean squared deviation."""
    parameters = list(one.policy.network.parameters())
    rows = []
    for number in range(settings.gradients):
        found = torch.autograd.grad(one.loss(one.batch(settings.batch), number), parameters, allow_unused=True)
        rows.append(torch.cat([g.flatten() for g in found if g is not None]))
    gradients = torch.stack(rows)
    mean = gradients.mean(0)
    return float(mean.square().sum() / (gradients - mean).square().sum(1).mean())


def run(settings: Settings, seed: int) -> Rows:
    base = base_model(seed, settings.pretraining, "flow")
    prompts = np.arange(settings.pairs, dtype=np.int64) % PROMPTS
    method = get("pnapo")
    assert method.augment is not None
    made = noise_tracked_pairs(base, prompts, reward, seed)
    pairs = method.augment(method.configure({"reward_scale": settings.gap}), made, seed)
    own, fresh = (float(errors(base, pairs[:2_000], rule, seed).mean()) for rule in (Stored(), Forward(shared=False)))
    rows: dict[str, dict[str, float]] = {"base": {**measure(settings, base), "own error": own, "fresh error": fresh}}
    tenths = [settings.steps * k // 10 for k in range(1, 11)]
    for beta in settings.betas:
        for name, options in arms(settings, pairs, beta).items():
            objective = method.objective(**options)
            found: dict[str, float] = {}
            if beta == settings.betas[0]:
                found["signal to noise"] = signal_to_noise(
                    settings, Run(base, method.objective(**options), pairs, seed)
                )
            seen = Run(base, objective, pairs, seed).train(
                settings, settings.steps, set(tenths), lambda policy: measure(settings, policy)
            )
            there = [step for step in tenths if seen[step]["good"] >= 0.9]
            found["steps"] = there[0] if there else 1.1 * settings.steps
            rows[f"{name}, beta {beta:g}"] = {**seen[tenths[-1]], **found}
    return rows


def _paper(r: Results, arm: str) -> str:
    return f"{arm}, beta {r.settings.betas[0]:g}"


def _fewest(r: Results, arm_names: Sequence[str], rows: Rows) -> float:
    return min(rows[f"{arm}, beta {beta:g}"]["steps"] for arm in arm_names for beta in r.settings.betas)


def _saved(r: Results) -> Estimate:
    """Steps that PNAPO at its best saves over DPO with shared noise at its best."""

    def number(rows: Rows) -> float:
        return _fewest(r, ("shared",), rows) - _fewest(r, ("PNAPO", "PNAPO, dynamic"), rows)

    return r.over("steps to a good rate of 0.9, shared noise at its best minus PNAPO at its best", number)


def _no_more(r: Results) -> Finding:
    """On the mean: an interval that has to lie below would let the claim stand by noise."""
    found = _saved(r)
    return Finding(found.mean <= 0, f"{found.text()}, asked a mean of at most 0")


CRITERIA = (
    Criterion("own noise", "PNAPO with a fixed beta has a higher good rate than DPO with independent noise",
              lambda r: r.difference(_paper(r, "PNAPO"), _paper(r, "independent"), "good").above(0.0)),
    Criterion("near the path", "the reference's error on its own noise is below half of that on fresh noise",
              lambda r: r.ratio("base", "base", "own error", "fresh error").below(0.5)),
    Criterion("shared noise will do", "DPO with shared noise at its best beta needs no more steps than PNAPO at its best",
              _no_more, "refutes"),
    Criterion("against shared noise", "PNAPO with a fixed beta has a higher good rate than DPO with shared noise",
              lambda r: r.difference(_paper(r, "PNAPO"), _paper(r, "shared"), "good").above(0.0), "noted"),
    Criterion("more than a smaller beta", "the dynamic beta has a higher good rate than its mean as a fixed beta",
              lambda r: r.difference(_paper(r, "PNAPO, dynamic"), _paper(r, "PNAPO, mean beta"), "good").above(0.0),
              "noted"),
    Criterion("a clearer gradient", "PNAPO's gradient has a higher signal-to-noise ratio than that of independent noise",
              lambda r: r.difference(_paper(r, "PNAPO"), _paper(r, "independent"), "signal to noise").above(0.0), "noted"),
)  # fmt: skip


def plot(r: Results, figure: Figure) -> None:
    left, right = figure.subplots(1, 2)
    series = {arm: {beta: f"{arm}, beta {beta:g}" for beta in r.settings.betas} for arm in _ARMS}
    lines(left, r, "good", series, log="x")
    left.set(xlabel="beta", ylabel="good rate at the end")
    bars(right, r, "steps")
    right.set(xlabel="steps to a good rate of 0.9")


STUDY = Study(
    slug="pnapo",
    title="A flow aligned on the noise its samples were made from",
    claim="Interpolating each image with the noise that it was made from, and a beta that follows reward gap and progress, "
    "align a rectified flow in far fewer steps than Diffusion-DPO needs.",
    source="arXiv 2605.09433",
    settings=Settings,
    run=run,
    metrics={
        "good": "share of samples nearer to the good mode than to the bad one",
        "off": "share of samples further than 4 sigma from both modes",
        "distance": "mean distance of samples to the good mode",
        "steps": "first tenth of the run at which the good rate is 0.9, in steps",
        "signal to noise": "of the gradient at the start: squared norm of the mean over mean squared deviation",
        "own error": "mean squared velocity error of the base model on the noise that its samples were made from",
        "fresh error": "the same on fresh noise",
    },
    criteria=CRITERIA,
    tiny={"pretraining": 20, "steps": 10, "batch": 8, "pairs": 20, "fresh": 40, "gradients": 2, "betas": (10.0,)},
    plot=plot,
)
