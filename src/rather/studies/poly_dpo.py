"""Poly-DPO, arXiv 2604.24953: does the weight alpha of 1 - p follow the quality of the labels, beyond what beta does?

Claim. DPO with alpha (1 - p) added, p the modelled probability that the winner wins, is robust: alpha > 0 helps where
labels contradict each other, alpha < 0 where pairs are trivial, and on clean data the best alpha goes to 0, which is DPO.

World. Points in the plane: four prompts, each with a good mode at radius 1.5 and a bad one at 0.5, spread 0.12, and a
noise-predicting network trained on both, half and half. Winners are from the good mode, losers from the bad one, fresh
pairs in every step, in three kinds of data. Clean. Noisy: 35% of the labels are flipped. Trivial: winner and loser are
from either mode, and the loser from another prompt, so that a pair tells prompts apart and nothing else. Score: the share
of 1,000 samples (50 steps of DDIM) within 4 spreads of the good mode; "good" counts those nearer to the good than to the
bad mode, "off" those further than 4 spreads from both.

Arms, of 300 steps of Adam (rate 1e-4, 64 pairs, clipped at 1) from the base, which is the reference: alpha of -0.8, 0, 2
and 8 with beta (with the factor 1/2, on mean errors) of 200, 60, 25 and 10. In trivial data, alpha at beta 200 alone, and
alpha 0 with beta 60. For each alpha the best beta is chosen in every seed by the score of other samples than those that
are reported.

Verdict. The claim needs: at beta 200 in noisy data alpha = 8 leads alpha = 0 by more than 0.05 in the good rate; in
trivial data the share off the modes does not fall with alpha and is larger at 2 and at 8 than at 0; with beta chosen for
each alpha, the better of the positive alphas leads alpha = 0 in noisy data, and none of the others leads alpha = 0 by
0.02 or more in clean data. It falls if with chosen betas no positive alpha leads alpha = 0 by 0.02 in noisy data, or if
alpha = 8 leads it by more than 0.02 in clean data. The better of two is taken in every seed, which favours the claim in
noisy data.

Noted besides. Whether a smaller beta alone does as well as alpha = 8 at beta 200 (noisy), and whether at equal beta the
order of the alphas is the same in clean data, both of which say that alpha > 0 acts as a smaller beta; and whether a
smaller beta leaves the modes in trivial data too.

Our reading: the world and every number in it, the bounds, and the choice of beta for each alpha, which the paper does not
report.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from rather.methods.registry import get
from rather.studies.base import Criterion, Study, StudySettings
from rather.studies.denoising import Pairs, base_model, judged, lesson, train
from rather.studies.figure import lines
from rather.studies.results import Estimate, Finding, Results, Rows, every
from rather.worlds.points.truth import BAD_RADIUS, GOOD_RADIUS, PROMPTS, draw_at

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Kind = Literal["clean", "noisy", "trivial"]


class Settings(StudySettings):
    alphas: tuple[float, ...] = Field(
        (-0.8, 0.0, 2.0, 8.0), min_length=3, description="alphas, growing, with 0 inside"
    )
    betas: tuple[float, ...] = Field((200.0, 60.0, 25.0, 10.0), min_length=2, description="betas, falling")
    flipped: float = Field(0.35, gt=0, lt=0.5, description="share of flipped labels in noisy data")
    steps: int = Field(300, ge=1, description="steps of Adam")
    rate: float = Field(1e-4, gt=0, description="learning rate")
    batch: int = Field(64, ge=4, description="pairs of a step")
    base: int = Field(4000, ge=1, description="steps of the base model's training")
    samples: int = Field(1000, ge=8, description="samples that are judged")
    choosing: int = Field(500, ge=8, description="other samples, by which beta is chosen")


def pairs(settings: Settings, kind: Kind, seed: int) -> Iterator[Pairs]:
    """Fresh pairs for every step."""
    random = np.random.default_rng([seed, 2])
    for _ in range(settings.steps):
        prompts = random.integers(PROMPTS, size=settings.batch)
        if kind == "trivial":
            radii = np.where(random.random((2, settings.batch)) < 0.5, GOOD_RADIUS, BAD_RADIUS)
            others = (prompts + random.integers(1, PROMPTS, size=settings.batch)) % PROMPTS
            yield Pairs(prompts, draw_at(prompts, radii[0], random), draw_at(others, radii[1], random))
            continue
        these = Pairs(prompts, draw_at(prompts, GOOD_RADIUS, random), draw_at(prompts, BAD_RADIUS, random))
        yield these.flipped(random.random(settings.batch) < settings.flipped) if kind == "noisy" else these


def cell(kind: Kind, alpha: float, beta: float) -> str:
    return f"{kind}, alpha {alpha:g}, beta {beta:g}"


def grid(settings: Settings, kind: Kind) -> list[tuple[float, float]]:
    """Pairs of alpha and beta that are tried."""
    if kind == "trivial":
        return [*((alpha, settings.betas[0]) for alpha in settings.alphas), (0.0, settings.betas[1])]
    return [(alpha, beta) for alpha in settings.alphas for beta in settings.betas]


def run(settings: Settings, seed: int) -> Rows:
    rows: dict[str, Mapping[str, float]] = {}
    policy = base_model(seed, settings.base)
    kinds: tuple[Kind, ...] = ("clean", "noisy", "trivial")
    for kind in kinds:
        steps = lesson(policy, policy.network, pairs(settings, kind, seed), seed)
        for alpha, beta in grid(settings, kind):
            objective = get("poly_dpo").objective(alpha=alpha, beta=beta, reduce="mean")
            network = train(policy, policy.network, objective, steps, settings.rate)
            found = judged(policy, network, settings.samples, seed)
            chosen_by = judged(policy, network, settings.choosing, seed + 1_000_000)["hit"]
            rows[cell(kind, alpha, beta)] = {
                "score": found["hit"],
                "good": found["good"],
                "off": found["off"],
                "chosen by": chosen_by,
            }
    return rows


def chosen(r: Results, rows: Rows, kind: Kind, alpha: float) -> float:
    """The score of an alpha with the beta that other samples choose, in one seed."""
    cells = [rows[cell(kind, alpha, beta)] for beta in r.settings.betas]
    return max(cells, key=lambda one: one["chosen by"])["score"]


def _lead(r: Results, kind: Kind, alphas: list[float]) -> Estimate:
    """Score of the best of some alphas minus that of alpha = 0, each with its chosen beta."""
    what = f"{kind}: score of alpha {' or '.join(f'{alpha:g}' for alpha in alphas)} minus that of 0, with chosen betas"
    return r.over(
        what, lambda rows: max(chosen(r, rows, kind, alpha) for alpha in alphas) - chosen(r, rows, kind, 0.0)
    )


def _positive(r: Results) -> list[float]:
    return [alpha for alpha in r.settings.alphas if alpha > 0]


def _equal_beta(r: Results, kind: Kind) -> Estimate:
    beta = r.settings.betas[0]
    return r.difference(cell(kind, r.settings.alphas[-1], beta), cell(kind, 0.0, beta), "good")


def _leaves(r: Results) -> Finding:
    beta = r.settings.betas[0]

    def more(one: float, other: float) -> Estimate:
        return r.difference(cell("trivial", one, beta), cell("trivial", other, beta), "off")

    rising = [more(after, before).above(-0.01) for before, after in pairwise(r.settings.alphas)]
    return every(*rising, *(more(alpha, 0.0).above(0.0) for alpha in _positive(r)))


def _smaller_beta(r: Results) -> Finding:
    plain = [cell("noisy", 0.0, beta) for beta in r.settings.betas[1:]]
    poly = cell("noisy", r.settings.alphas[-1], r.settings.betas[0])
    best = r.over(
        "good, best smaller beta at alpha 0 minus the largest alpha at the largest beta",
        lambda rows: max(rows[one]["good"] for one in plain) - rows[poly]["good"],
    )
    return best.above(-0.02)


CRITERIA = (
    Criterion("noisy, equal beta", "in noisy data the largest alpha leads alpha 0 by more than 0.05 in the good rate at "
              "equal beta", lambda r: _equal_beta(r, "noisy").above(0.05)),
    Criterion("trivial", "in trivial data the share off the modes does not fall with alpha (within 0.01) and is larger for "
              "every positive alpha than for 0", _leaves),
    Criterion("noisy, chosen beta", "in noisy data the better positive alpha leads alpha 0, each with its chosen beta",
              lambda r: _lead(r, "noisy", _positive(r)).above(0.0)),
    Criterion("clean, chosen beta", "in clean data no other alpha leads alpha 0 by 0.02, each with its chosen beta",
              lambda r: every(*(_lead(r, "clean", [alpha]).below(0.02) for alpha in r.settings.alphas if alpha))),
    Criterion("no use in noise", "in noisy data no positive alpha leads alpha 0 by 0.02, each with its chosen beta",
              lambda r: _lead(r, "noisy", _positive(r)).below(0.02), "refutes"),
    Criterion("best on clean data too", "in clean data the largest alpha leads alpha 0 by more than 0.02, each with its "
              "chosen beta", lambda r: _lead(r, "clean", [r.settings.alphas[-1]]).above(0.02), "refutes"),
    Criterion("a smaller beta", "in noisy data a smaller beta at alpha 0 is as good as the largest alpha at the largest "
              "beta, within 0.02", _smaller_beta, "noted"),
    Criterion("same order", "at equal beta the largest alpha leads alpha 0 in clean data too",
              lambda r: _equal_beta(r, "clean").above(0.0), "noted"),
    Criterion("trivial, smaller beta", "in trivial data a smaller beta leaves the modes more often than the largest alpha",
              lambda r: r.difference(cell("trivial", 0.0, r.settings.betas[1]),
                                     cell("trivial", r.settings.alphas[-1], r.settings.betas[0]), "off").above(0.0),
              "noted"),
)  # fmt: skip


def plot(r: Results, figure: Figure) -> None:
    kinds: tuple[Kind, ...] = ("clean", "noisy")
    for axes, kind in zip(figure.subplots(1, 2, sharey=True), kinds, strict=True):
        series = {
            f"alpha {alpha:g}": {beta: cell(kind, alpha, beta) for beta in r.settings.betas}
            for alpha in r.settings.alphas
        }
        lines(axes, r, "score", series, log="x")
        axes.set(xlabel="beta", title=f"{kind} labels", ylim=(-0.03, 1.03))
        if kind == "clean":
            axes.set(ylabel="share of samples at the good mode")


STUDY = Study(
    slug="poly-dpo",
    title="The weight of 1 - p and the quality of labels",
    claim="DPO with alpha (1 - p) added is robust: alpha above 0 helps with contradicting labels, below 0 with trivial "
    "pairs, and on clean data the best alpha is 0.",
    source="arXiv 2604.24953",
    settings=Settings,
    run=run,
    metrics={
        "score": "share of samples within 4 spreads of the good mode",
        "good": "share nearer to the good mode than to the bad one",
        "off": "share further than 4 spreads from both modes",
        "chosen by": "the score of other samples, by which beta is chosen",
    },
    criteria=CRITERIA,
    tiny={
        "alphas": (-0.8, 0.0, 8.0),
        "betas": (200.0, 20.0),
        "steps": 3,
        "batch": 16,
        "base": 20,
        "samples": 40,
        "choosing": 40,
    },
    plot=plot,
)
