"""Diffusion-NPO and Self-NPO on images: guidance away from a worse model, in the world of coloured shapes.

Claim. Guidance improves when its negative branch is a model that was made worse on purpose (Diffusion-NPO, arXiv
2505.11245), and fine-tuning on one's own truncated roll-outs makes such a model without data (Self-NPO, arXiv 2505.11777).

World. That of the study ``shapes``: captions of six tasks, a UNet that predicts v, samples judged by a program. It guides by
eps + omega (eps - eps_negative), where the negative prediction sees no caption.

Arms, each at every omega. Ordinary guidance: the negative prediction is the base's own. Self-NPO: that of the base after
fine-tuning on its roll-outs for captions alone (paper's form: frozen teacher, pure noise, squared error). Diffusion-NPO: of
the base after ``diffusion_npo`` on the pairs of the study ``shapes``. Placebo: of the base after as much training as
Self-NPO by the usual loss, on pictures and captions like those that it has learned from. All trainings take the learning
rate of the study ``shapes``; nothing was tuned here. By themselves all are measured without guidance.

Verdict. Supported when Self-NPO's model by itself has a lower total than the base, and guidance away from it a higher total
than ordinary guidance, each at its best omega, chosen in every seed. Refuted when at the best omegas ordinary guidance is
as good (the lead of Self-NPO is below 0.01). Diffusion-NPO's lead, and Self-NPO's over the placebo, are noted.

[inferred] The world, the number of steps and the rates; the papers judge by reward models, which like contrast by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from pydantic import Field

from rather.data.types import Comparison
from rather.studies import shapes
from rather.studies.base import Criterion, Study
from rather.studies.figure import lines
from rather.studies.results import Estimate, Results, Rows
from rather.worlds.shapes.render import to_png
from rather.worlds.shapes.sloppy import captioned, captions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ORDINARY, SELF, NPO, PLACEBO = "ordinary", "Self-NPO", "Diffusion-NPO", "placebo"
ARMS = (ORDINARY, SELF, NPO, PLACEBO)
_NEW = 1_000_000  # part of captions and pictures, away from those of pretraining


class Settings(shapes.Settings):
    processes: tuple[str, ...] = Field(("v",), min_length=1, max_length=1, description="base model")
    epochs: float = Field(2.0, gt=0, description="passes over captions, pairs or pictures")
    per_task: int = Field(50, ge=1, description="held-out captions of each task")
    omegas: tuple[float, ...] = Field(
        (1.0, 2.0, 4.0), min_length=2, description="omegas; the guidance scale is 1 + omega"
    )


def run(settings: Settings, seed: int) -> Rows:
    (process,) = settings.processes
    lessons: dict[str, tuple[str, dict[str, Any], list[Comparison]]] = {
        SELF: ("self_npo", {}, _captions(settings.captions, seed)),
        NPO: ("diffusion_npo", {"beta": settings.beta}, list(shapes.own_pairs(settings, process))),
        PLACEBO: ("sft", {}, _pictures(settings.captions, seed)),
    }
    base = shapes.opened(settings, process, seed)
    rows: dict[str, Mapping[str, float]] = {alone(ORDINARY): _measured(base, 1.0)}
    negative: dict[str, Any] = {ORDINARY: None}
    for arm, (method, own, data) in lessons.items():
        policy = shapes.opened(settings, process, seed)
        shapes.train(policy, settings, seed, method, own, data)
        rows[alone(arm)] = _measured(policy, 1.0)
        negative[arm] = policy.network.requires_grad_(False)
    for omega in settings.omegas:
        for arm in ARMS:
            base.negative = negative[arm]
            rows[cell(arm, omega)] = _measured(base, 1.0 + omega)
    return rows


def _measured(policy: Any, guidance: float) -> dict[str, float]:
    policy.guidance = guidance
    return shapes.rates(policy.check(policy.network))


def _captions(count: int, seed: int) -> list[Comparison]:
    return [
        Comparison(f"caption-{row}", caption, ()) for row, caption in enumerate(islice(captions(seed, _NEW), count))
    ]


def _pictures(count: int, seed: int) -> list[Comparison]:
    """As in pretraining."""
    return [
        Comparison(f"picture-{row}", caption, (to_png(image),))
        for row, (caption, image) in enumerate(islice(captioned(seed, _NEW), count))
    ]


def cell(arm: str, omega: float) -> str:
    return f"{arm}, omega {omega:g}"


def alone(arm: str) -> str:
    return "base, unguided" if arm == ORDINARY else f"{arm}, alone"


def _lead(r: Results, one: str, other: str) -> Estimate:
    def best(rows: Rows, arm: str) -> float:
        return max(rows[cell(arm, omega)]["total"] for omega in r.settings.omegas)

    what = f"total of {one} minus {other}, each at its best omega"
    return r.over(what, lambda rows: best(rows, one) - best(rows, other))


CRITERIA = (
    Criterion("made worse", "by itself, unguided, Self-NPO's model has a lower total than the base",
              lambda r: r.difference(alone(SELF), alone(ORDINARY), "total").below(0.0)),
    Criterion("better guidance", "at the best omegas guidance away from it has a higher total than ordinary guidance",
              lambda r: _lead(r, SELF, ORDINARY).above(0.0)),
    Criterion("ordinary is as good", "at the best omegas its lead over ordinary guidance is below 0.01",
              lambda r: _lead(r, SELF, ORDINARY).below(0.01), "refutes"),
    Criterion("placebo", "it leads guidance away from a model that only was trained on as before",
              lambda r: _lead(r, SELF, PLACEBO).above(0.0), "noted"),
    Criterion("npo made worse", "by itself, unguided, Diffusion-NPO's model has a lower total than the base",
              lambda r: r.difference(alone(NPO), alone(ORDINARY), "total").below(0.0), "noted"),
    Criterion("npo", "at the best omegas guidance away from Diffusion-NPO's model leads ordinary guidance",
              lambda r: _lead(r, NPO, ORDINARY).above(0.0), "noted"),
)  # fmt: skip


def plot(r: Results, figure: Figure) -> None:
    left, right = figure.subplots(1, 2, sharey=True)
    lines(left, r, "total", {arm: {omega: cell(arm, omega) for omega in r.settings.omegas} for arm in ARMS}, log="x")
    left.set(xlabel="omega", ylabel="total", title="guided away from")
    shapes.bars(r, right, {arm: alone(arm) for arm in ARMS})
    right.set(title="by themselves, unguided")
    right.legend()


STUDY = Study(
    slug="shapes-self-npo",
    title="Guidance away from a worse model of shapes",
    claim="Guidance improves when its negative branch is a model made worse on purpose, which needs no data.",
    source="arXiv 2505.11777, 2505.11245",
    settings=Settings,
    run=run,
    metrics=shapes.STUDY.metrics,
    criteria=CRITERIA,
    tiny={"captions": 6, "images": 2, "epochs": 1.0, "batch": 3, "per_task": 1, "omegas": (1.0, 2.0)},
    plot=plot,
    threads=None,
    requires=("diffusers", "PIL"),
    seeds=3,
)
