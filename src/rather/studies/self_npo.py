"""Self-NPO, arXiv 2505.11777: does guidance away from a model that was trained on its own samples make samples better?

Claim. Classifier-free guidance improves when its negative branch is a model made worse on purpose. Fine-tuning on one's
own truncated roll-outs makes such a model without data.

World. Points in the plane: four prompts, each an even mixture of two modes at radius 0.5 and 1.5 with spread 0.12. A
noise-predicting network is trained on it for 500 steps only, and misses the modes often. Quality of 2,000 samples (50
steps of DDIM): mean log-density under the true mixture, each clamped at -50 from below; and the share further than 3.5
spreads from both modes.

Arms, over omega from 0.25 to 4 (scale 1 + omega). Ordinary guidance: the negative prediction is the base's without a
prompt. Self-NPO: the negative model sees no prompt either, and is the base after 50 steps of Adam (rate 3e-4, 256
roll-outs) on its own roll-outs: paper's form (frozen teacher, pure noise, its prompt, squared error), and as released
(teacher that follows at 0.999, noised data, no prompt, pseudo-Huber). Self-guidance: the paper's negative model with the
same prompt. Placebo: as the paper's form, but trained for the same steps on the true data by the usual loss. All at each
omega; and all again for a base with 20 times the training.

Verdict. The claim needs: by itself the negative model is worse than its teacher (mean log-density, with the prompt); at
omega = 1 guidance away from it is better than ordinary guidance by more than 0.15; and so it is with the best omega for
each, chosen in every seed, by any margin. It falls if with the best omegas ordinary guidance is as good (the lead is
below 0.02), or if the negative model improves the well-trained base as well (its best guided log-density is more than
0.02 above both no guidance and ordinary guidance there), where there is nothing to gain in theory.

Noted besides. The released form; self-guidance with the same prompt; and the placebo.

Our reading: the world and every number in it, the bounds, and the number of teacher steps from noise (drawn from 1 to 5
of a sampler of 5 steps, so that all levels are met). The paper's measures are reward models, which like contrast by
themselves.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import Field
from torch import nn

from rather.methods.registry import get
from rather.policies.guidance import Guidance
from rather.policies.points import PointsPolicy
from rather.policies.rollout import SelfRollouts
from rather.studies.base import Criterion, Study, StudySettings
from rather.studies.denoising import base_model, lone
from rather.studies.figure import lines
from rather.studies.results import Estimate, Finding, Results, Rows, every
from rather.worlds.points.truth import BAD_RADIUS, GOOD_RADIUS, NOISE, PROMPTS, Points, base_data, directions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ORDINARY, PAPER, RELEASED, SAME, PLACEBO = "ordinary", "Self-NPO", "Self-NPO, released", "same prompt", "placebo"
ARMS = (ORDINARY, PAPER, RELEASED, SAME, PLACEBO)
WELL = "well trained: "
FLOOR, FAR = -50.0, 3.5


class Settings(StudySettings):
    base: int = Field(500, ge=1, description="steps of the base model's training")
    longer: int = Field(20, ge=1, description="how many times longer the other base is trained")
    omegas: tuple[float, ...] = Field((0.25, 0.5, 1.0, 2.0, 4.0), min_length=2, description="omegas, growing, with 1")
    steps: int = Field(50, ge=1, description="steps of the fine-tuning")
    rate: float = Field(3e-4, gt=0, description="its learning rate")
    batch: int = Field(256, ge=4, description="roll-outs of a step")
    samples: int = Field(2000, ge=8, description="samples that are judged")


def log_density(prompts: np.ndarray, points: Points) -> Points:
    """[N] nats under the true mixture of each prompt; at least ``FLOOR``."""
    unit = directions(prompts)
    parts = [
        -((points - radius * unit) ** 2).sum(-1) / (2 * NOISE**2) - np.log(2 * np.pi * NOISE**2) + np.log(0.5)
        for radius in (GOOD_RADIUS, BAD_RADIUS)
    ]
    return np.maximum(np.nan_to_num(np.logaddexp(*parts), nan=FLOOR), FLOOR)


def quality(
    policy: PointsPolicy, network: nn.Module, count: int, seed: int, guidance: Guidance | None
) -> dict[str, float]:
    prompts = np.arange(count) % PROMPTS
    points = policy.points(network, prompts, seed, guidance=guidance)
    unit, near = directions(prompts), FAR * NOISE
    distance = [np.linalg.norm(points - radius * unit, axis=-1) for radius in (GOOD_RADIUS, BAD_RADIUS)]
    off = ~(np.minimum(*distance) <= near)
    return {"log-density": float(log_density(prompts, points).mean()), "off": float(off.mean())}


def fine_tuned(settings: Settings, policy: PointsPolicy, seed: int, kind: str) -> nn.Module:
    """A copy of the base after some steps on its own roll-outs; for the placebo, on true data."""
    network, teacher = (
        copy.deepcopy(policy.network).requires_grad_(),
        copy.deepcopy(policy.network).requires_grad_(False),
    )
    released = kind == RELEASED
    rollouts = SelfRollouts(policy, teacher, start="data" if released else "noise", excess=-1.0 if released else 0.0)
    objective = get("sft" if kind == PLACEBO else "self_npo").objective(**({"loss": "huber"} if released else {}))
    prompts, points = base_data(settings.steps * settings.batch, seed + 10_000)
    adam = torch.optim.Adam(network.parameters(), lr=settings.rate)
    for number in range(settings.steps):
        rows = slice(number * settings.batch, (number + 1) * settings.batch)
        batch = lone(prompts[rows], points[rows])
        scorer: Any = policy if kind == PLACEBO else rollouts
        draw = scorer.draw(batch, (seed << 32) + number)
        outcome = objective(scorer.score(network, batch, draw), None, batch.layout)
        adam.zero_grad(set_to_none=True)
        outcome.loss(batch.layout.counts()).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        adam.step()
        if released:
            rollouts.follow(network)
    return network.requires_grad_(False)


def cell(arm: str, omega: float, start: str = "") -> str:
    return f"{start}{arm}, omega {omega:g}"


def run(settings: Settings, seed: int) -> Rows:
    rows: dict[str, Mapping[str, float]] = {}
    for start, length in (("", settings.base), (WELL, settings.base * settings.longer)):
        policy = base_model(seed, length)
        base = policy.network
        negative = {kind: fine_tuned(settings, policy, seed, kind) for kind in (PAPER, RELEASED, PLACEBO)}
        rows[f"{start}base"] = quality(policy, base, settings.samples, seed, None)
        for kind, network in negative.items():
            rows[f"{start}{kind}, alone"] = quality(policy, network, settings.samples, seed, None)
        for omega in settings.omegas:
            guidance = {ORDINARY: Guidance(base, omega), SAME: Guidance(negative[PAPER], omega, same_prompt=True)}
            guidance |= {kind: Guidance(network, omega) for kind, network in negative.items()}
            for arm in ARMS:
                rows[cell(arm, omega, start)] = quality(policy, base, settings.samples, seed, guidance[arm])
    return rows


def best(r: Results, rows: Rows, arm: str, start: str = "") -> float:
    """The log-density of an arm at its best omega, in one seed."""
    return max(rows[cell(arm, omega, start)]["log-density"] for omega in r.settings.omegas)


def _lead(r: Results, one: str, other: str, start: str = "") -> Estimate:
    what = f"{start}log-density of {one} minus {other}, each at its best omega"
    return r.over(what, lambda rows: best(r, rows, one, start) - best(r, rows, other, start))


def _worse(r: Results, kind: str) -> Finding:
    return r.difference(f"{kind}, alone", "base", "log-density").below(0.0)


def _gains_anyway(r: Results) -> Finding:
    over_none = r.over(
        f"{WELL}log-density of {PAPER} at its best omega minus that of no guidance",
        lambda rows: best(r, rows, PAPER, WELL) - rows[f"{WELL}base"]["log-density"],
    )
    return every(over_none.above(0.02), _lead(r, PAPER, ORDINARY, WELL).above(0.02))


CRITERIA = (
    Criterion("made worse", "by itself the negative model has a lower log-density than its teacher",
              lambda r: _worse(r, PAPER)),
    Criterion("at omega 1", "guidance away from it is better than ordinary guidance by more than 0.15 at omega = 1",
              lambda r: r.difference(cell(PAPER, 1.0), cell(ORDINARY, 1.0), "log-density").above(0.15)),
    Criterion("at the best omegas", "it is better with the best omega for each",
              lambda r: _lead(r, PAPER, ORDINARY).above(0.0)),
    Criterion("ordinary is as good", "at the best omegas its lead over ordinary guidance is below 0.02",
              lambda r: _lead(r, PAPER, ORDINARY).below(0.02), "refutes"),
    Criterion("gains where nothing is to gain", "on the well-trained base its best omega is better than no guidance and "
              "than ordinary guidance by more than 0.02", _gains_anyway, "refutes"),
    Criterion("released form", "the released form leads ordinary guidance at the best omegas",
              lambda r: _lead(r, RELEASED, ORDINARY).above(0.0), "noted"),
    Criterion("same prompt", "self-guidance with the same prompt on both branches is better than no guidance at omega = 1",
              lambda r: r.difference(cell(SAME, 1.0), "base", "log-density").above(0.0), "noted"),
    Criterion("placebo", "the negative model leads one that was trained on true data, at the best omegas",
              lambda r: _lead(r, PAPER, PLACEBO).above(0.0), "noted"),
)  # fmt: skip


def plot(r: Results, figure: Figure) -> None:
    for axes, start in zip(figure.subplots(1, 2), ("", WELL), strict=True):
        series = {arm: {omega: cell(arm, omega, start) for omega in r.settings.omegas} for arm in ARMS}
        lines(axes, r, "log-density", series, log="x")
        axes.axhline(r.mean(f"{start}base", "log-density").mean, color=axes.xaxis.label.get_color(), linewidth=0.6)
        axes.set(xlabel="omega", title="well-trained base" if start else "under-trained base")
    figure.axes[0].set(ylabel="mean log-density (line: no guidance)")


STUDY = Study(
    slug="self-npo",
    title="A negative model for guidance, made without data",
    claim="Guidance improves when its negative branch is a model made worse on purpose, and fine-tuning on one's own "
    "truncated roll-outs makes one without data.",
    source="arXiv 2505.11777",
    settings=Settings,
    run=run,
    metrics={
        "log-density": "mean log-density of samples under the truth, nats, each at least -50",
        "off": "share of samples further than 3.5 spreads from both modes",
    },
    criteria=CRITERIA,
    tiny={"base": 10, "longer": 2, "omegas": (0.5, 1.0), "steps": 2, "batch": 16, "samples": 16},
    plot=plot,
)
