"""Four relatives of Diffusion-DPO on images: MaPO, InPO, SmPO, Poly-DPO, in the world of coloured shapes.

Claim. Each of MaPO (arXiv 2406.06424), DDIM-InPO (2503.18454), SmPO (2506.02698) and Poly-DPO (2604.24953) makes a
diffusion model obey captions more often than Diffusion-DPO does, on the same pairs and for as many steps.

World. That of the study ``shapes``: captions of six tasks, pairs of a base model's own images scored by a program, a UNet
that predicts v, held-out captions judged by the program.

Arms. The base; ``diffusion_dpo`` at the beta of the study ``shapes``, and at a quarter of it, since a relative that only
acts as a smaller beta is no better; ``mapo`` as released (version 1); ``inpo`` and ``smpo`` at the same beta, ``smpo``
with the gain that gives its factor a mean of 1 on these pairs; ``poly_dpo`` with alpha 2 at the same beta. All at the
learning rate of that study, for half as many steps; nothing was tuned for the relatives.

Verdict. Supported when all four have a higher total than Diffusion-DPO; refuted when Diffusion-DPO has a higher total
than each of the four. How each stands against the base and against the smaller beta is noted.

[inferred] Everything but the losses: the papers train Stable Diffusion on people's choices.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from rather.studies import shapes
from rather.studies.base import Criterion, Study
from rather.studies.results import Results, Rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RELATIVES = ("mapo", "inpo", "smpo", "poly_dpo")
DPO, LOW = "diffusion_dpo", "diffusion_dpo, a quarter of beta"


class Settings(shapes.Settings):
    processes: tuple[str, ...] = Field(("v",), min_length=1, max_length=1, description="base model")
    epochs: float = Field(2.0, gt=0, description="passes over them")
    per_task: int = Field(60, ge=1, description="held-out captions of each task")
    alpha: float = Field(2.0, description="alpha of poly_dpo")


def run(settings: Settings, seed: int) -> Rows:
    process, beta = settings.processes[0], {"beta": settings.beta}
    arms: dict[str, tuple[str, dict[str, Any]]] = {
        DPO: (DPO, beta),
        LOW: (DPO, {"beta": settings.beta / 4}),
        "mapo": ("mapo", {}),
        "inpo": ("inpo", beta),
        "smpo": ("smpo", {**beta, "gain": _gain(settings), "reward_low": 0.0, "reward_high": 1.0}),
        "poly_dpo": ("poly_dpo", {**beta, "alpha": settings.alpha, "reduce": "mean"}),
    }
    rows: dict[str, Mapping[str, float]] = {"base": shapes.untrained(settings, process, seed)}
    for name, (method, own) in arms.items():
        rows[name] = shapes.trained(settings, process, seed, method, own, shapes.own_pairs(settings, process))
    return rows


def _gain(settings: Settings) -> float:
    """Of smpo, so that its factor on beta has a mean of one."""
    gaps = [pair.scores[0] - pair.scores[1] for pair in shapes.own_pairs(settings, settings.processes[0])]
    return float(1 / np.tanh(np.divide(gaps, 2)).mean())


CRITERIA = (
    *(Criterion(f"{name} over dpo", f"{name} has a higher total than Diffusion-DPO", shapes.above(name, DPO))
      for name in RELATIVES),
    Criterion("dpo over all", "Diffusion-DPO has a higher total than the best of the four",
              lambda r: min((r.difference(DPO, name, "total") for name in RELATIVES), key=lambda d: d.mean).above(0.0),
              "refutes"),
    *(Criterion(f"{name} over the base", f"{name} raises the total of the base model", shapes.above(name, "base"), "noted")
      for name in (DPO, *RELATIVES)),
    *(Criterion(f"{name} over a smaller beta", f"{name} has a higher total than Diffusion-DPO at a quarter of beta",
                shapes.above(name, LOW), "noted")
      for name in RELATIVES),
)  # fmt: skip


def plot(r: Results, figure: Figure) -> None:
    shapes.chart(r, figure, ("base", DPO, LOW, *RELATIVES))


STUDY = Study(
    slug="shapes-methods",
    title="Relatives of Diffusion-DPO on images of shapes",
    claim="MaPO, InPO, SmPO and Poly-DPO each make a diffusion model obey captions more often than Diffusion-DPO does.",
    source="arXiv 2406.06424, 2503.18454, 2506.02698, 2604.24953",
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
