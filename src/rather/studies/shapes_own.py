"""PNAPO and SePPO on images that a rectified flow made itself, in the world of coloured shapes.

Claim. PNAPO (arXiv 2605.09433): pairs of a model's own images teach it more when each image is scored at the noise that
it was made from. SePPO (arXiv 2410.05255): a winner beside a sample of the reference teaches more than the winner alone.

World. That of the study ``shapes``. For each of so many training captions the base flow makes four images, without
guidance, and a program scores each by the share of what is asked for that it shows.

Arms. The base. On pairs of the best and the worst image of each caption (captions without a difference are left out):
``diffusion_dpo`` with a noise shared in the pair, and ``pnapo`` with the stored noises at the same beta. On a picture
that obeys the caption, drawn by the program: ``sft``, and ``seppo`` with the model's first image of the caption as the
sample, at the same beta, in one round (the reference is the base). All for as many passes at one learning rate.

Verdict. Supported when PNAPO has a higher total than Diffusion-DPO on the same pairs and SePPO a higher one than sft;
refuted when Diffusion-DPO has a higher total than PNAPO, or sft than SePPO. Gains over the base are noted. Learning rate
and beta are those of the study ``shapes``; nothing was tuned here.

[inferred] Everything but the losses: the papers train FLUX, Stable Diffusion and the like, judged by reward models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from rather.data.types import Comparison, Edge
from rather.studies import shapes
from rather.studies.base import Criterion, Study
from rather.studies.results import Finding, Results, Rows
from rather.worlds.shapes.demand import OPENINGS, TASKS, Demand, random_demand, scene_for
from rather.worlds.shapes.render import render, to_png
from rather.worlds.shapes.score import checks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPO, PNAPO, SFT, SEPPO = "diffusion_dpo, own pairs", "pnapo, own pairs", "sft, winners", "seppo, winners"
_TOGETHER = 64  # images made in one call


class Settings(shapes.Settings):
    processes: tuple[str, ...] = Field(("flow",), min_length=1, max_length=1, description="base model")
    pairs: int = Field(1000, ge=2, description="captions that the base makes images of")
    images: int = Field(4, ge=2, description="of each caption")


def run(settings: Settings, seed: int) -> Rows:
    process, half = settings.processes[0], settings.beta / 2  # pnapo's beta comes without the factor 1/2
    own, won = _own(settings, process, seed)
    rows: dict[str, Mapping[str, float]] = {"base": shapes.untrained(settings, process, seed)}
    for name, method, options, data in (
        (DPO, "diffusion_dpo", {"beta": settings.beta}, own),
        (PNAPO, "pnapo", {"beta": half}, own),
        (SFT, "sft", {}, won),
        (SEPPO, "seppo", {"beta": settings.beta}, won),
    ):
        rows[name] = shapes.trained(settings, process, seed, method, options, data)
    return rows


def _own(settings: Settings, process: str, seed: int) -> tuple[list[Comparison], list[Comparison]]:
    """Best and worst of a caption's own images with their noises; and a program's picture beside the first of them."""
    from rather.policies.pipelines.pixels import pixels_of

    policy, random = shapes.opened(settings, process, seed), np.random.default_rng([seed, 7])
    demands = [random_demand(TASKS[row % len(TASKS)], random) for row in range(settings.pairs)]
    captions = [demand.caption(int(random.integers(len(OPENINGS)))) for demand in demands]
    noise = random.standard_normal((settings.pairs, settings.images, *policy.noise_shape), dtype=np.float32)
    flat, asked = noise.reshape(-1, *policy.noise_shape), np.repeat(captions, settings.images).tolist()
    made = []
    for first in range(0, len(asked), _TOGETHER):
        some = slice(first, first + _TOGETHER)
        made += [pixels_of(image) for image in policy.from_noise(asked[some], flat[some])]
    own, won = [], []
    for row, (demand, caption) in enumerate(zip(demands, captions, strict=True)):
        images = made[row * settings.images : (row + 1) * settings.images]
        scores = [_score(demand, image) for image in images]
        best, worst = int(np.argmax(scores)), int(np.argmin(scores))
        if scores[best] > scores[worst]:
            own.append(
                Comparison(
                    f"own-{row}",
                    caption,
                    (to_png(images[best]), to_png(images[worst])),
                    (Edge(0, 1),),
                    scores=(scores[best], scores[worst]),
                    extras={"noise": noise[row, [best, worst]]},
                )
            )
        drawn = to_png(render(scene_for(demand, random)))
        won.append(Comparison(f"won-{row}", caption, (drawn, to_png(images[0])), (Edge(0, 1),)))
    return own, won


def _score(demand: Demand, image: np.ndarray) -> float:
    return float(np.mean(checks(demand, image)))


def _above(better: str, worse: str) -> Callable[[Results], Finding]:
    return lambda r: r.difference(better, worse, "total").above(0.0)


CRITERIA = (
    Criterion("pnapo", "PNAPO has a higher total than Diffusion-DPO on the same pairs", _above(PNAPO, DPO)),
    Criterion("seppo", "SePPO has a higher total than sft on the same winners", _above(SEPPO, SFT)),
    Criterion("dpo over pnapo", "Diffusion-DPO has a higher total than PNAPO", _above(DPO, PNAPO), "refutes"),
    Criterion("sft over seppo", "sft has a higher total than SePPO", _above(SFT, SEPPO), "refutes"),
    *(Criterion(f"{name}: gain", f"{name}: the total is higher than the base's", _above(name, "base"), "noted")
      for name in (DPO, PNAPO, SFT, SEPPO)),
)  # fmt: skip


def plot(r: Results, figure: Figure) -> None:
    axes = figure.subplots()
    shapes.bars(r, axes, {arm: arm for arm in ("base", DPO, PNAPO, SFT, SEPPO)})
    axes.set(ylabel="share of images that obey")
    axes.legend()


STUDY = Study(
    slug="shapes-own",
    title="A flow's own images as data",
    claim="Own images teach more at the noise they came from, and winners more beside a sample of the reference.",
    source="arXiv 2605.09433, 2410.05255",
    settings=Settings,
    run=run,
    metrics=shapes.STUDY.metrics,
    criteria=CRITERIA,
    tiny={"base_steps": 1, "pairs": 12, "images": 2, "epochs": 0.5, "batch": 3, "per_task": 1},
    plot=plot,
    threads=None,
    requires=("diffusers", "PIL"),
    seeds=3,
)
