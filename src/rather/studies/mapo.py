"""MaPO, arXiv 2406.06424: does leaving out the reference help where the preference data lies far from the base model?

Claim. Bounded denoising errors and a plain denoising loss on the winner, without a reference, adapt better than
Diffusion-DPO (arXiv 2311.12908) when what is preferred is something that the reference hardly knows (reference mismatch).

World. Points in the plane: four prompts, each with a good mode at radius 1.5 and a bad one at 0.5, spread 0.12. A
noise-predicting network is trained on both, half and half. Winners are drawn at radius 1.5 + Delta, losers from the bad
mode, fresh pairs in every step. Delta = 0 is a mode that the base knows; 1 and 2 lie outside of what it has seen. A
sample hits when it is within 4 spreads of the target; a bad one is within 4 spreads of the bad mode. Samples are made by
50 steps of DDIM.

Arms, for each Delta, of 400 steps of Adam (rate 1e-4, 128 pairs, clipped at 1) from the base: SFT on the winners;
Diffusion-DPO with beta (with the factor 1/2, on mean errors) of 5, 20, 80, 200 and 2000; MaPO as released, and its
version 2 with power 8.

Verdict. The claim needs: the lead in hits of MaPO (as released) over the best beta of DPO, chosen anew in every seed and
for every Delta, grows from each Delta to the next and exceeds 0.3 at the largest; and MaPO's rate of bad samples is below
SFT's at every Delta. It falls if DPO's best beta comes within 0.05 of MaPO's hits at the largest Delta, or if SFT equals
MaPO there (hits within 0.05 and bad samples within 0.01).

Noted besides. The same lead for version 2; whether SFT alone hits the far target more often than MaPO, which would say
that the missing reference and not the margin does the work; and whether a small beta overshoots at Delta = 0 (all of the
sweep is in the table).

Our reading: the world and every number in it, and the bounds of the criteria. The paper's special sets (styles, safety,
personalization of SDXL) are not tried here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import Field

from rather.methods.registry import get
from rather.studies.base import Criterion, Study, StudySettings
from rather.studies.denoising import Pairs, base_model, judged, lesson, train
from rather.studies.figure import lines
from rather.studies.results import Estimate, Finding, Results, Rows, every
from rather.worlds.points.truth import BAD_RADIUS, GOOD_RADIUS, PROMPTS, draw_at

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SFT, CODE, V2 = "SFT", "MaPO", "MaPO v2"


class Settings(StudySettings):
    deltas: tuple[float, ...] = Field((0.0, 1.0, 2.0), min_length=2, description="how far winners lie beyond, growing")
    betas: tuple[float, ...] = Field((5.0, 20.0, 80.0, 200.0, 2000.0), min_length=1, description="betas of DPO")
    power: float = Field(8.0, ge=1, description="exponent of MaPO's version 2")
    steps: int = Field(400, ge=1, description="steps of Adam")
    rate: float = Field(1e-4, gt=0, description="learning rate")
    batch: int = Field(128, ge=4, description="pairs of a step")
    base: int = Field(4000, ge=1, description="steps of the base model's training")
    samples: int = Field(1000, ge=8, description="samples that are judged")


def pairs(settings: Settings, delta: float, seed: int) -> Iterator[Pairs]:
    """Fresh pairs for every step."""
    random = np.random.default_rng([seed, 1])
    for _ in range(settings.steps):
        prompts = random.integers(PROMPTS, size=settings.batch)
        yield Pairs(prompts, draw_at(prompts, GOOD_RADIUS + delta, random), draw_at(prompts, BAD_RADIUS, random))


def dpo(beta: float) -> str:
    return f"DPO {beta:g}"


def arms(settings: Settings) -> dict[str, tuple[str, dict[str, Any]]]:
    """Arm -> method and its options."""
    return {
        SFT: ("sft", {}),
        **{dpo(beta): ("diffusion_dpo", {"beta": beta}) for beta in settings.betas},
        CODE: ("mapo", {}),
        V2: ("mapo", {"variant": "v2", "power": settings.power}),
    }


def cell(arm: str, delta: float) -> str:
    return f"{arm}, Delta {delta:g}"


def run(settings: Settings, seed: int) -> Rows:
    rows: dict[str, Mapping[str, float]] = {}
    policy = base_model(seed, settings.base)
    for delta in settings.deltas:
        steps = lesson(policy, policy.network, pairs(settings, delta, seed), seed)
        rows[cell("base", delta)] = judged(policy, policy.network, settings.samples, seed, delta)
        for arm, (method, options) in arms(settings).items():
            network = train(policy, policy.network, get(method).objective(**options), steps, settings.rate)
            found = judged(policy, network, settings.samples, seed, delta)
            with torch.no_grad():
                last = policy.score(network, steps[-1].batch, steps[-1].draw).elements.reshape(2, -1).mean(1)
            rows[cell(arm, delta)] = found | {
                "error of winners": float(-2 * last[0]),
                "error of losers": float(-2 * last[1]),
            }
    return rows


def leads(r: Results, rows: Rows, delta: float, arm: str) -> float:
    """Hits of an arm minus those of the best beta of DPO, in one seed."""
    return rows[cell(arm, delta)]["hit"] - max(rows[cell(dpo(beta), delta)]["hit"] for beta in r.settings.betas)


def lead(r: Results, delta: float, arm: str = CODE) -> Estimate:
    what = f"hits of {arm} minus those of the best DPO, Delta {delta:g}"
    return r.over(what, lambda rows: leads(r, rows, delta, arm))


def _growth(r: Results, near: float, far: float) -> Estimate:
    what = f"growth of the lead from Delta {near:g} to {far:g}"
    return r.over(what, lambda rows: leads(r, rows, far, CODE) - leads(r, rows, near, CODE))


def _grows(r: Results) -> Finding:
    return every(*(_growth(r, near, far).above(0.0) for near, far in pairwise(r.settings.deltas)))


def _fewer_bad(r: Results) -> Finding:
    return every(*(r.difference(cell(CODE, d), cell(SFT, d), "bad").below(0.0) for d in r.settings.deltas))


def _sft_equals(r: Results) -> Finding:
    far = r.settings.deltas[-1]
    hits, bad = (r.difference(cell(SFT, far), cell(CODE, far), metric) for metric in ("hit", "bad"))
    return every(hits.within(-0.05, 0.05), bad.within(-0.01, 0.01))


def _overshoots(r: Results) -> Finding:
    small, near = min(r.settings.betas), r.settings.deltas[0]
    return r.mean(cell(dpo(small), near), "hit").below(0.5)


CRITERIA = (
    Criterion("lead", "at the largest Delta MaPO's hits are more than 0.3 above those of DPO's best beta",
              lambda r: lead(r, r.settings.deltas[-1]).above(0.3)),
    Criterion("growth", "the lead over DPO's best beta grows from each Delta to the next", _grows),
    Criterion("bad samples", "MaPO makes fewer bad samples than SFT at every Delta", _fewer_bad),
    Criterion("DPO matches", "at the largest Delta DPO's best beta comes within 0.05 of MaPO's hits",
              lambda r: lead(r, r.settings.deltas[-1]).below(0.05), "refutes"),
    Criterion("SFT equals", "at the largest Delta SFT has MaPO's hits (within 0.05) and bad samples (within 0.01)",
              _sft_equals, "refutes"),
    Criterion("version 2", "the lead of version 2 at the largest Delta is above 0.3 too",
              lambda r: lead(r, r.settings.deltas[-1], V2).above(0.3), "noted"),
    Criterion("SFT hits more", "at the largest Delta SFT alone hits more often than MaPO",
              lambda r: r.difference(cell(SFT, r.settings.deltas[-1]), cell(CODE, r.settings.deltas[-1]), "hit").above(0.0),
              "noted"),
    Criterion("overshoot", "at the smallest Delta DPO with the smallest beta hits less than half of the time", _overshoots,
              "noted"),
)  # fmt: skip


def plot(r: Results, figure: Figure) -> None:
    left, right = figure.subplots(1, 2)
    arms_shown = {left: [CODE, V2, SFT], right: [dpo(beta) for beta in r.settings.betas]}
    for axes, shown in arms_shown.items():
        lines(axes, r, "hit", {arm: {delta: cell(arm, delta) for delta in r.settings.deltas} for arm in shown})
        axes.set(xlabel="Delta: how far the winners lie beyond what the base knows", ylim=(-0.03, 1.03))
    left.set(ylabel="share of samples that hit the target")


STUDY = Study(
    slug="mapo",
    title="Preference optimization without a reference under mismatch",
    claim="Bounded denoising errors and a denoising loss on the winner, without a reference, adapt better than "
    "Diffusion-DPO where the preferred images lie far from what the reference knows.",
    source="arXiv 2406.06424",
    settings=Settings,
    run=run,
    metrics={
        "hit": "share of samples within 4 spreads of the target",
        "good": "share nearer to the good mode than to the bad one",
        "bad": "share within 4 spreads of the bad mode",
        "off": "share further than 4 spreads from both modes of the base",
        "error of winners": "mean squared denoising error of the last batch's winners",
        "error of losers": "the same of its losers",
    },
    criteria=CRITERIA,
    tiny={"deltas": (0.0, 2.0), "betas": (20.0, 200.0), "steps": 4, "batch": 16, "base": 20, "samples": 40},
    plot=plot,
)
