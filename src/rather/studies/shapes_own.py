"""PNAPO and SePPO on images that a rectified flow made itself, in the world of coloured shapes.

Claim. PNAPO (arXiv 2605.09433): pairs of a model's own images teach it more when each image is scored at the noise that
it was made from. SePPO (arXiv 2410.05255): a winner beside a sample of the reference teaches more than the winner alone.

World. That of the study ``shapes``. For each of so many training captions the base flow makes four images, without
guidance, and a program scores each by what it shows of what is asked for.

Arms. The base. On pairs of the best and the worst image of each caption (captions without a difference are left out):
``diffusion_dpo`` with a noise shared in the pair, and ``pnapo`` with the stored noises at the same beta. On a picture
that obeys the caption, drawn by the program: ``sft``, and ``seppo`` with one of the model's images of the caption as the
sample, at the same beta, in one round (the reference is the base). All for as many passes at one learning rate.

Verdict. Supported when PNAPO has a higher total than Diffusion-DPO on the same pairs and SePPO a higher one than sft;
refuted when Diffusion-DPO has a higher total than PNAPO, or sft than SePPO. Gains over the base are noted. Learning rate
and beta are those of the study ``shapes``; nothing was tuned here.

[inferred] Everything but the losses: the papers train FLUX, Stable Diffusion and the like, judged by reward models.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from rather.data.types import Comparison, Edge
from rather.studies import own_images, shapes
from rather.studies.base import Criterion, Study
from rather.studies.results import Results, Rows
from rather.worlds.shapes.demand import scene_for
from rather.worlds.shapes.render import render, to_png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPO, PNAPO, SFT, SEPPO = "diffusion_dpo, own pairs", "pnapo, own pairs", "sft, winners", "seppo, winners"


class Settings(shapes.Settings):
    processes: tuple[str, ...] = Field(("flow",), min_length=1, max_length=1, description="base model")
    captions: int = Field(1000, ge=1, description="captions that the base model makes images of")
    images: int = Field(4, ge=2, description="of each caption")
    per_task: int = Field(60, ge=1, description="held-out captions of each task")


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
    """Best and worst of a caption's own images with their noises; and a program's picture beside any one of them."""
    made = own_images.make(shapes.opened(settings, process, seed), settings.captions, settings.images, seed)
    pairs = [one.pair(f"own-{row}", 0, -1) for row, one in enumerate(made)]
    random = np.random.default_rng([seed, 8])
    drawn = [to_png(render(scene_for(one.demand, random))) for one in made]
    won = [
        Comparison(
            f"won-{row}",
            one.caption,
            (drawn[row], to_png(one.images[int(random.integers(len(one.images)))])),
            (Edge(0, 1),),
        )
        for row, one in enumerate(made)
    ]
    return [pair for pair in pairs if pair is not None], won


CRITERIA = (
    Criterion("pnapo", "PNAPO has a higher total than Diffusion-DPO on the same pairs", shapes.above(PNAPO, DPO)),
    Criterion("seppo", "SePPO has a higher total than sft on the same winners", shapes.above(SEPPO, SFT)),
    Criterion("dpo over pnapo", "Diffusion-DPO has a higher total than PNAPO", shapes.above(DPO, PNAPO), "refutes"),
    Criterion("sft over seppo", "sft has a higher total than SePPO", shapes.above(SFT, SEPPO), "refutes"),
    *(Criterion(f"{name}: gain", f"{name}: the total is higher than the base's", shapes.above(name, "base"), "noted")
      for name in (DPO, PNAPO, SFT, SEPPO)),
)  # fmt: skip


def plot(r: Results, figure: Figure) -> None:
    shapes.chart(r, figure, ("base", DPO, PNAPO, SFT, SEPPO))


STUDY = Study(
    slug="shapes-own",
    title="A flow's own images as data",
    claim="Own images teach more at the noise they came from, and winners more beside a sample of the reference.",
    source="arXiv 2605.09433, 2410.05255",
    settings=Settings,
    run=run,
    metrics=shapes.STUDY.metrics,
    criteria=CRITERIA,
    tiny={"captions": 6, "images": 2, "epochs": 1.0, "batch": 3, "per_task": 1},
    plot=plot,
    threads=None,
    requires=("diffusers", "PIL"),
    seeds=3,
)
