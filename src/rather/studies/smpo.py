"""SmPO-Diffusion, arXiv 2506.02698: do smoothed labels spare ties, and does a ReNoise correction help a coarse inversion?

Claim. A factor on each pair's logit that vanishes where a reward model sees a tie keeps a model from learning what hardly
matters, and ReNoise-corrected inversion gives better latents than random noise or plain DDIM inversion.

World. The points of ``world:points``, a diffusion model with half of its mass on a good mode and half on a bad one.
(a) Smoothing: pairs are drawn from the base distribution, so half of them are of one mode. The reward is 1 on the good
mode, 0 on the bad one, plus 0.01 for each sigma along the tangent: a preference of almost no value. The reward orders every
pair. 200 steps of 256 pairs, beta = 100, shared noise in all arms. (b) Latents: a good point over a bad one, 100 steps of
128 pairs, beta = 200, no smoothing. Adam at 1e-4 throughout.

Arms. (a) hard labels; smoothed, with the gain that makes the mean factor 1; smoothed with gain 10; and, as a control, hard
labels at the beta that gain 10 has on the mean. (b) random noise, DDIM inversion, ReNoise inversion with grids of 2 and 10
steps; and how exactly a point that is inverted to t = 700 is found again when it is regenerated on a fine grid.

Verdict. The claim needs: hard labels shift samples along the tangent by more than 0.4 sigma, both smoothed arms by less
than 0.15, and smoothing with mean 1 has a good rate at most 0.05 below that of hard labels; with a grid of 2, ReNoise has a
higher good rate than DDIM inversion, and that than random noise, and regenerates more exactly; with a grid of 10 the two
differ by at most 0.1; and against the control, smoothing still shifts less along the tangent. It falls if the shift under
smoothing with mean 1 is more than half of that under hard labels.

Our reading: the world and every number in it. The paper's models are Stable Diffusion's, its reward is PickScore.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import Field

from rather.data.types import Comparison, Edge
from rather.methods.registry import get
from rather.policies.inversion import Levels, invert, levels_to
from rather.policies.points import PointsPolicy
from rather.studies.base import Criterion, Study
from rather.studies.denoising import base_model
from rather.studies.figure import bars
from rather.studies.noised_points import PointsSettings, Run, measure, sampled
from rather.studies.results import Finding, Results, Rows, every
from rather.worlds.points.pairs import PointsOptions, load_pairs
from rather.worlds.points.truth import NOISE, PROMPTS, base_data, directions, judge

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NUISANCE = 0.01  # reward of a sigma along the tangent
_GAIN = 10.0
_T = 700  # where points are inverted to


class Settings(PointsSettings):
    pairs: int = Field(4_000, ge=4, description="pairs of each kind")
    smoothing_steps: int = Field(200, ge=1, description="steps of the arms of (a)")
    smoothing_batch: int = Field(256, ge=1, description="pairs in a step of (a)")
    smoothing_beta: float = Field(100.0, gt=0, description="beta of (a), with the factor 1/2")
    beta: float = Field(200.0, gt=0, description="beta of (b), with the factor 1/2")


def tangential(prompts: np.ndarray, points: np.ndarray) -> np.ndarray:
    """[N] coordinate across the line of the modes, in sigma."""
    unit = directions(prompts)
    return (points[:, 1] * unit[:, 0] - points[:, 0] * unit[:, 1]) / NOISE


def reward(prompts: np.ndarray, points: np.ndarray) -> np.ndarray:
    return judge(prompts, points)["good"] + _NUISANCE * tangential(prompts, points)


def rated_pairs(settings: Settings, seed: int) -> list[Comparison]:
    """Two base points of one prompt each, the one with the higher reward first, with both rewards."""
    prompts, points = base_data(2 * PROMPTS * settings.pairs, seed)
    made = []
    for prompt in range(PROMPTS):
        mine = points[prompts == prompt][: settings.pairs // 2]  # pairs / PROMPTS of two points each
        rewards = reward(np.full(len(mine), prompt), mine)
        for row in range(0, len(mine) - 1, 2):
            order = sorted((row, row + 1), key=lambda i, given=rewards: -given[i])
            made.append(
                Comparison(
                    id=f"rated-{seed}-{prompt}-{row}",
                    prompt=prompt,
                    responses=tuple(tuple(mine[i].tolist()) for i in order),
                    edges=(Edge(0, 1),),
                    scores=tuple(float(rewards[i]) for i in order),
                )
            )
    return made


def smoothing(settings: Settings, base: PointsPolicy, seed: int) -> Rows:
    """The rows of (a)."""
    method = get("smpo")
    assert method.augment is not None
    rated = rated_pairs(settings, seed)
    smoothed = method.augment(method.configure({}), rated, seed)
    mean = float(np.mean(np.tanh([(pair.edges[0].margin or 0.0) / 2 for pair in smoothed])))
    shared = {"noising.model": "shared", "beta": settings.smoothing_beta}
    arms: dict[str, tuple[str, dict[str, Any]]] = {
        "hard": ("diffusion_dpo", shared),
        "smoothed, mean 1": ("smpo", {**shared, "gain": 1 / mean}),
        "smoothed, gain 10": ("smpo", {**shared, "gain": _GAIN}),
        "hard, beta of gain 10": ("diffusion_dpo", {**shared, "beta": settings.smoothing_beta * _GAIN * mean}),
    }
    prompts, before = sampled(settings, base)
    start = tangential(prompts, before).mean()
    sized = settings.model_copy(update={"batch": settings.smoothing_batch})
    rows = {}
    for name, (arm, options) in arms.items():
        one = Run(base, get(arm).objective(**options), smoothed, seed)
        one.train(sized, settings.smoothing_steps, (), lambda policy: None)
        found = measure(settings, one.policy)
        rows[name] = {**found, "shift": float(tangential(*sampled(settings, one.policy)).mean() - start)}
    return rows


@torch.no_grad()
def regeneration(base: PointsPolicy, pairs: Sequence[Comparison], steps: int, renoise: bool) -> float:
    """Root mean squared distance by coordinate of points from what their inversion to t = 700 gives back on all levels."""
    batch = base.collate(base.encode(pairs))
    clean, prompt = batch.inputs["latents"], batch.inputs["prompt"]
    target = torch.full((len(clean),), _T)

    def predict(x: torch.Tensor, timestep: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return base.network(x, timestep, prompt[rows])

    # Plain inversion asks where a step starts, ReNoise where it ends, as the two methods do.
    eval_at = "next" if renoise else "current"
    noisy = invert(clean, levels_to(base.schedule, target, steps), predict, eval_at=eval_at, renoise=renoise)
    fine = levels_to(base.schedule, target, base.schedule.steps // 2)
    back = Levels(*(side.flip(0) for side in (fine.timestep, fine.signal, fine.sigma)))
    return float((invert(noisy, back, predict) - clean).square().mean().sqrt())


def latents(settings: Settings, base: PointsPolicy, seed: int) -> Rows:
    """The rows of (b)."""
    pairs = load_pairs(PointsOptions.model_validate({"pairs": settings.pairs, "seed": seed}))
    arms: dict[str, dict[str, Any]] = {"random noise": {}}
    for steps in (2, 10):
        inverted = {"noising.model": "inversion", "noising.steps": steps}
        arms[f"inversion, K {steps}"] = inverted
        arms[f"ReNoise, K {steps}"] = {**inverted, "noising.renoise": True, "noising.eval_at": "next"}
    rows: dict[str, dict[str, float]] = {}
    for name, options in arms.items():
        one = Run(base, get("diffusion_dpo").objective(beta=settings.beta, **options), pairs, seed)
        one.train(settings, settings.steps, (), lambda policy: None)
        rows[name] = measure(settings, one.policy)
        if name != "random noise":
            rows[name]["regeneration"] = regeneration(
                base, pairs[:200], options["noising.steps"], "noising.renoise" in options
            )
    return rows


def run(settings: Settings, seed: int) -> Rows:
    base = base_model(seed, settings.pretraining)
    return {"base": measure(settings, base), **smoothing(settings, base, seed), **latents(settings, base, seed)}


def _spared(r: Results) -> Finding:
    return every(
        r.mean("hard", "shift").above(0.4),
        r.mean("smoothed, mean 1", "shift").below(0.15),
        r.mean("smoothed, gain 10", "shift").below(0.15),
    )


def _not_spared(r: Results) -> Finding:
    def excess(rows: Rows) -> float:
        return rows["smoothed, mean 1"]["shift"] - rows["hard"]["shift"] / 2

    return r.over("shift under smoothing with mean 1 minus half of that under hard labels", excess).above(0.0)


def _order(r: Results) -> Finding:
    return every(
        r.difference("ReNoise, K 2", "inversion, K 2", "good").above(0.0),
        r.difference("inversion, K 2", "random noise", "good").above(0.0),
        r.difference("ReNoise, K 2", "inversion, K 2", "regeneration").below(0.0),
    )


CRITERIA = (
    Criterion("ties are spared", "hard labels shift by more than 0.4 sigma, smoothed ones by less than 0.15", _spared),
    Criterion("at no price", "smoothing with mean 1 has a good rate at most 0.05 below that of hard labels",
              lambda r: r.difference("smoothed, mean 1", "hard", "good").above(-0.05)),
    Criterion("not by a larger beta", "smoothing shifts less than hard labels at its mean beta",
              lambda r: r.difference("smoothed, gain 10", "hard, beta of gain 10", "shift").below(0.0)),
    Criterion("a coarse grid", "with a grid of 2, ReNoise is above DDIM inversion, and that above random noise", _order),
    Criterion("a fine grid", "with a grid of 10, ReNoise and DDIM inversion have the same good rate, within 0.1",
              lambda r: r.difference("ReNoise, K 10", "inversion, K 10", "good").within(-0.1, 0.1)),
    Criterion("ties are learned", "the shift under smoothing with mean 1 is more than half of that under hard labels",
              _not_spared, "refutes"),
)  # fmt: skip


def plot(r: Results, figure: Figure) -> None:
    left, right = figure.subplots(1, 2)
    bars(left, r, "shift")
    left.set(xlabel="shift along the tangent, in sigma", title="a preference of almost no value")
    bars(right, r, "good", ["random noise", *(f"{how}, K {k}" for k in (2, 10) for how in ("inversion", "ReNoise"))])
    right.set(xlabel="good rate", xlim=(0, 1), title="latents")


STUDY = Study(
    slug="smpo",
    title="Smoothed labels and corrected inversion",
    claim="A factor on each pair's logit that vanishes for ties keeps a model from learning what hardly matters, and a "
    "ReNoise-corrected inversion gives better latents than random noise or plain inversion.",
    source="arXiv 2506.02698",
    settings=Settings,
    run=run,
    metrics={
        "good": "share of samples nearer to the good mode than to the bad one",
        "off": "share of samples further than 4 sigma from both modes",
        "shift": "mean shift of samples along the tangent from the base model's, in sigma",
        "regeneration": "root mean squared error by coordinate of points inverted to t = 700 and regenerated",
    },
    criteria=CRITERIA,
    tiny={
        "pretraining": 20,
        "steps": 2,
        "batch": 8,
        "pairs": 24,
        "fresh": 40,
        "smoothing_steps": 2,
        "smoothing_batch": 8,
    },
    plot=plot,
)
