"""DDIM-InPO, arXiv 2503.18454: does training at inverted latents align faster than at randomly noised ones?

Claim. Diffusion-DPO's loss, evaluated at latents that DDIM inversion of the two images gives, needs a fraction of the
steps.

World. The points of ``world:points``: a diffusion model with half of its mass on a good mode and half on a bad one, 4000
pairs of a good point over a bad one. 100 steps of 128 pairs, Adam at 1e-4, beta = 200 (with the factor 1/2).

Arms. Diffusion-DPO; InPO with a grid of 1, 2, 4 and 10 steps, inverted by the current policy; InPO with 10 steps inverted
by the reference. As controls Diffusion-DPO for as many steps as InPO's extra passes pay for, and at smaller betas: an
inversion enlarges the gap between the pair's errors, and so works partly like a larger step. A backward pass counts as
two forward ones, so a step of Diffusion-DPO is 4 passes (policy, backward, reference), and inversion with 10 steps adds
5.5 on average: 2.4 times as many steps.

Verdict. The claim needs: InPO with 10 steps has after half of the steps at least the good rate that Diffusion-DPO has after
all (less 0.02); 10 steps are better than 1; and its rate of samples off both modes is at most 0.02. It falls if
Diffusion-DPO with the same passes, or at a smaller beta, has a higher good rate than InPO at an off rate that is not more
than 0.01 higher.

Our reading: the world and every number in it, the grid, and what a pass costs. The paper's models are Stable Diffusion's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from rather.methods.registry import get
from rather.studies.base import Criterion, Study
from rather.studies.denoising import base_model
from rather.studies.figure import bars, lines
from rather.studies.noised_points import PointsSettings, Run, measure
from rather.studies.results import Finding, Results, Rows, every, some
from rather.worlds.points.pairs import PointsOptions, load_pairs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_GRIDS = (1, 2, 4, 10)
_MORE = 2.4  # passes of a step of InPO with 10 steps over those of Diffusion-DPO


class Settings(PointsSettings):
    pairs: int = Field(4_000, ge=1, description="labelled pairs")
    beta: float = Field(200.0, gt=0, description="beta, with the factor 1/2")
    small: tuple[float, ...] = Field((20.0, 60.0), description="smaller betas of the control")


def arms(settings: Settings) -> dict[str, tuple[str, dict[str, Any]]]:
    """Arm -> method and its options."""
    grids = {f"InPO, K {k}": ("inpo", {"beta": settings.beta, "noising.steps": k}) for k in _GRIDS}
    return {
        "DPO": ("diffusion_dpo", {"beta": settings.beta}),
        **grids,
        "InPO, reference": ("inpo", {"beta": settings.beta, "noising.inverter": "reference"}),
        **{f"DPO, beta {beta:g}": ("diffusion_dpo", {"beta": beta}) for beta in settings.small},
    }


def times(settings: Settings) -> dict[str, int]:
    """When arms are measured: after a quarter, half and all of the steps, and all that the same passes pay for."""
    return {
        "quarter": max(settings.steps // 4, 1),
        "half": max(settings.steps // 2, 1),
        "all": settings.steps,
        "same passes": round(_MORE * settings.steps),
    }


def run(settings: Settings, seed: int) -> Rows:
    base = base_model(seed, settings.pretraining)
    pairs = load_pairs(PointsOptions.model_validate({"pairs": settings.pairs, "seed": seed}))
    rows = {"base": measure(settings, base)}
    for name, (method, options) in arms(settings).items():
        when = {word: step for word, step in times(settings).items() if word != "same passes" or name == "DPO"}
        one = Run(base, get(method).objective(**options), pairs, seed)
        found = one.train(settings, max(when.values()), set(when.values()), lambda policy: measure(settings, policy))
        rows |= {f"{name}, {word}": found[step] for word, step in when.items()}
    return rows


def _dominates(r: Results, cell: str, other: str = "InPO, K 10, all") -> Finding:
    """A higher good rate at an off rate that is not more than 0.01 higher."""
    return every(r.difference(cell, other, "good").above(0.0), r.difference(cell, other, "off").below(0.01))


def _refuted(r: Results) -> Finding:
    smaller = (f"DPO, beta {beta:g}, all" for beta in r.settings.small)
    return some(*(_dominates(r, cell) for cell in ("DPO, same passes", *smaller)))


CRITERIA = (
    Criterion("half of the steps", "InPO with 10 steps has after half of the steps DPO's good rate after all, less 0.02",
              lambda r: r.difference("InPO, K 10, half", "DPO, all", "good").above(-0.02)),
    Criterion("finer is better", "InPO with a grid of 10 has a higher good rate than with one of 1",
              lambda r: r.difference("InPO, K 10, all", "InPO, K 1, all", "good").above(0.0)),
    Criterion("on the modes", "InPO's rate of samples off both modes is below 0.02",
              lambda r: r.mean("InPO, K 10, all", "off").below(0.02)),
    Criterion("DPO is as good", "DPO with the same passes, or at a smaller beta, dominates InPO", _refuted, "refutes"),
    Criterion("either inverter", "inverting by the reference gives the same good rate, within 0.05",
              lambda r: r.difference("InPO, reference, all", "InPO, K 10, all", "good").within(-0.05, 0.05), "noted"),
)  # fmt: skip


def plot(r: Results, figure: Figure) -> None:
    left, right = figure.subplots(1, 2)
    when = times(r.settings)
    shown = ("DPO", *(f"InPO, K {k}" for k in _GRIDS))
    series = {arm: {when[w]: f"{arm}, {w}" for w in when if r.has(f"{arm}, {w}", "good")} for arm in shown}
    lines(left, r, "good", series)
    left.set(xlabel="steps", ylabel="good rate", ylim=(0.4, 1.02))
    bars(right, r, "off", [cell for cell in r.cells if cell == "base" or cell.endswith(("all", "same passes"))])
    right.set(xlabel="share of samples off both modes")


STUDY = Study(
    slug="inpo",
    title="Training at inverted latents",
    claim="Diffusion-DPO's loss at latents that DDIM inversion gives needs a fraction of the steps that it needs at "
    "randomly noised ones.",
    source="arXiv 2503.18454",
    settings=Settings,
    run=run,
    metrics={
        "good": "share of samples nearer to the good mode than to the bad one",
        "off": "share of samples further than 4 sigma from both modes",
    },
    criteria=CRITERIA,
    tiny={"pretraining": 20, "steps": 2, "batch": 8, "pairs": 20, "fresh": 40},
    plot=plot,
)
