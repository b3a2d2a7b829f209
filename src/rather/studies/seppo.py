"""SePPO (later SSPO), arXiv 2410.05255: can earlier checkpoints stand in for losers, if winners tell what samples are worth?

Claim. With winners alone, earlier checkpoints serve as reference and as generators of the other response. A test on each
winner (does the current model predict it better than the reference does?) decides whether such a sample is pushed away or
drawn in, and that beats both self-play that always pushes away and supervised training on the winners.

World. Points in the plane: four prompts, each with a good mode at radius 1.5 and a bad one at 0.5, spread 0.12, and a
noise-predicting network trained on both, half and half. Winners are from the good mode: fresh ones in every step; or, to
give the claim its best chance, 200 of them with twice the spread, of which 40 are held out. A sample hits when it lies
within 4 spreads of the good mode.

Arms. 20 rounds of 30 steps of Adam (rate 2e-4, 128 winners, clipped at 1, started anew each round). In a round the
reference is an earlier checkpoint, the base among them: drawn at random, the latest, or the base always; it makes 1,024
samples (20 steps of DDIM), which the steps draw their other responses from. Loss with beta = 20 (with the factor 1/2, on
mean errors): the flip by sign or by indicator (random reference), or no flip (random, latest, base). SFT on the same
winners. With few winners: SFT, the flip by sign, and no flip with a random reference; each keeps the round with the
smallest error on the held-out winners.

Verdict. The claim needs: the flip by sign ends no more than 0.03 of the hits below its best round, where no flip with a
random reference ends more than 0.3 below its own; and the flip by sign beats SFT with few noisy winners, each at its kept
round. It falls if with few noisy winners SFT is not worse than the flip by sign (the better of sign and indicator), nor
with fresh ones.

Noted besides. Whether a random reference beats the latest and the base without the flip, whether the indicator is as good
as the sign, and what share of the samples is flipped.

Our reading: the outer loop beyond its accounts (no training code is released), the world and every number in it, the
bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field
from torch import nn

from rather.methods.registry import get
from rather.policies.points import PointsPolicy
from rather.studies.base import Criterion, Study, StudySettings
from rather.studies.denoising import Pairs, base_model, judged, lesson, scored, train
from rather.studies.results import Estimate, Finding, Results, Rows, every
from rather.worlds.points.truth import GOOD_RADIUS, PROMPTS, Points, draw_at

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Replay = Literal["random", "latest", "base"]
SFT, SIGN, INDICATOR = "SFT", "flip by sign", "flip by indicator"
PLAIN: dict[Replay, str] = {"random": "no flip", "latest": "no flip, latest", "base": "no flip, base"}
FEW = "few: "
PARTS = {"base": 0.0, "quarter": 0.25, "half": 0.5, "three quarters": 0.75, "final": 1.0}
"""When hits are told, as a share of the rounds."""


class Settings(StudySettings):
    rounds: int = Field(20, ge=2, description="rounds K, each with a reference of its own")
    steps: int = Field(30, ge=1, description="steps of Adam in a round")
    rate: float = Field(2e-4, gt=0, description="learning rate")
    batch: int = Field(128, ge=4, description="winners of a step")
    beta: float = Field(20.0, gt=0, description="scale on half the mean error")
    pool: int = Field(1024, ge=8, description="samples of the reference in a round")
    few: int = Field(200, ge=10, description="winners where they are few")
    held: int = Field(40, ge=4, description="of these, held out")
    spread: float = Field(2.0, ge=1, description="spread of the few winners, in that of the mode")
    base: int = Field(4000, ge=1, description="steps of the base model's training")
    samples: int = Field(500, ge=8, description="samples that are judged after each round")


@dataclass(frozen=True)
class Winners:
    """Prompts [N] and points [N, 2]."""

    prompts: np.ndarray
    points: Points

    def take(self, rows: np.ndarray | slice) -> Winners:
        return Winners(self.prompts[rows], self.points[rows])


def fresh(count: int, random: np.random.Generator) -> Winners:
    prompts = random.integers(PROMPTS, size=count)
    return Winners(prompts, draw_at(prompts, GOOD_RADIUS, random))


def few(settings: Settings, random: np.random.Generator) -> Winners:
    """Winners around the good mode with a larger spread."""
    prompts = np.arange(settings.few) % PROMPTS
    centre = draw_at(prompts, GOOD_RADIUS, random)
    mode = GOOD_RADIUS * np.stack([np.cos(prompts * np.pi / 2), np.sin(prompts * np.pi / 2)], axis=-1)
    return Winners(prompts, mode + settings.spread * (centre - mode))


class Rounds:
    """The outer loop of one arm."""

    def __init__(self, settings: Settings, policy: PointsPolicy, seed: int) -> None:
        self.settings, self.policy, self.seed = settings, policy, seed
        self.checkpoints: list[nn.Module] = [policy.network]

    def reference(self, replay: Replay, number: int) -> nn.Module:
        """An earlier checkpoint for round ``number`` (from 0); the first round has the base alone."""
        drawn = int(np.random.default_rng([self.seed, 3, number]).integers(number + 1))
        return self.checkpoints[{"random": drawn, "latest": number, "base": 0}[replay]]

    def run(
        self,
        method: str,
        options: Mapping[str, Any],
        replay: Replay,
        winners: Callable[[np.random.Generator], Winners],
        held: Winners | None = None,
    ) -> dict[str, float]:
        """Hits after each round, their best and last, that of the kept round, and the share of flips."""
        settings, policy = self.settings, self.policy
        objective, flips = get(method).objective(**options), []
        for number in range(settings.rounds):
            reference = self.reference(replay, number)
            random = np.random.default_rng([self.seed, 4, number])
            pool = np.arange(settings.pool) % PROMPTS
            samples = policy.points(reference, pool, seed=(self.seed << 16) + number + 1, steps=20)
            steps = lesson(
                policy, reference, (self._pairs(winners(random), samples, random) for _ in range(settings.steps)),
                (self.seed << 16) + number,
            )  # fmt: skip
            network = train(policy, self.checkpoints[-1], objective, steps, settings.rate)
            self.checkpoints.append(network)
            last = steps[-1]
            gap = scored(policy, network, last.batch, last.draw).elements - last.reference.elements
            flips.append(float((gap.reshape(-1, 2).mean(1)[last.batch.layout.winner] < 0).double().mean()))
        hits = [judged(policy, network, settings.samples, self.seed)["hit"] for network in self.checkpoints]
        found = {name: hits[round(part * settings.rounds)] for name, part in PARTS.items()}
        found |= {"best": max(hits), "lost": max(hits) - hits[-1], "flipped": float(np.mean(flips))}
        return found if held is None else found | {"kept": hits[self._kept(held)]}

    def _pairs(self, winners: Winners, samples: Points, random: np.random.Generator) -> Pairs:
        """Each winner with a sample of the reference for its prompt."""
        row = random.integers(len(samples) // PROMPTS, size=len(winners.prompts)) * PROMPTS + winners.prompts
        return Pairs(winners.prompts, winners.points, samples[row])

    def _kept(self, held: Winners) -> int:
        """The checkpoint with the smallest mean error on held-out winners, over 32 draws."""
        pairs = [Pairs(held.prompts, held.points, held.points)] * 32
        steps = lesson(self.policy, self.policy.network, pairs, self.seed + 99)
        errors = [
            float(
                np.mean(
                    [-2 * scored(self.policy, one, step.batch, step.draw).elements.mean().item() for step in steps]
                )
            )
            for one in self.checkpoints
        ]
        return int(np.argmin(errors))


def arms(settings: Settings) -> dict[str, tuple[str, dict[str, Any], Replay]]:
    """Arm -> method, options and which checkpoint is the reference."""
    flip = {"beta": settings.beta}
    return {
        SFT: ("sft", {}, "latest"),
        SIGN: ("seppo", flip, "random"),
        INDICATOR: ("seppo", {**flip, "mode": "indicator"}, "random"),
        **{PLAIN[replay]: ("seppo", {**flip, "mode": "off"}, replay) for replay in PLAIN},
    }


def run(settings: Settings, seed: int) -> Rows:
    rows: dict[str, Mapping[str, float]] = {}
    policy = base_model(seed, settings.base)
    for arm, (method, options, replay) in arms(settings).items():
        rounds = Rounds(settings, policy, seed)
        rows[arm] = rounds.run(method, options, replay, lambda random: fresh(settings.batch, random))
    given = few(settings, np.random.default_rng([seed, 5]))
    held, rest = given.take(slice(0, settings.held)), given.take(slice(settings.held, None))
    for arm in (SFT, SIGN, INDICATOR, PLAIN["random"]):
        method, options, replay = arms(settings)[arm]
        rounds = Rounds(settings, policy, seed)
        rows[FEW + arm] = rounds.run(
            method, options, replay,
            lambda random: rest.take(random.integers(len(rest.prompts), size=settings.batch)), held,
        )  # fmt: skip
    return rows


def _stable(r: Results) -> Finding:
    return every(r.mean(SIGN, "lost").below(0.03), r.mean(PLAIN["random"], "lost").above(0.3))


def _over_sft(r: Results, few: bool, arms: tuple[str, ...] = (SIGN,)) -> Estimate:
    """Hits of the better of some arms minus those of SFT; at the kept round with few winners, else at the last."""
    start, metric = (FEW, "kept") if few else ("", "final")
    what = f"{metric} hits of {start}{' or '.join(arms)} minus those of SFT"
    return r.over(what, lambda rows: max(rows[start + arm][metric] for arm in arms) - rows[start + SFT][metric])


def _no_better(r: Results) -> Finding:
    return every(*(_over_sft(r, few, (SIGN, INDICATOR)).below(0.01) for few in (True, False)))


def _random_is_best(r: Results) -> Finding:
    own, others = PLAIN["random"], (PLAIN["latest"], PLAIN["base"])
    return every(*(r.difference(own, other, "final").above(0.0) for other in others))


CRITERIA = (
    Criterion("no collapse", "the flip by sign ends within 0.03 of its best round, no flip more than 0.3 below its own",
              _stable),
    Criterion("beats SFT", "with few noisy winners the flip by sign hits more often than SFT, each at its kept round",
              lambda r: _over_sft(r, True).above(0.0)),
    Criterion("no better than SFT", "neither with few noisy winners nor with fresh ones does the better of sign and "
              "indicator lead SFT by 0.01", _no_better, "refutes"),
    Criterion("random reference", "without the flip, a random reference ends above the latest and the base",
              _random_is_best, "noted"),
    Criterion("indicator", "the indicator ends within 0.05 of the sign",
              lambda r: r.difference(INDICATOR, SIGN, "final").within(-0.05, 0.05), "noted"),
    Criterion("flips", "between 0.2 and 0.5 of the samples are flipped by sign",
              lambda r: r.mean(SIGN, "flipped").within(0.2, 0.5), "noted"),
)  # fmt: skip


def plot(r: Results, figure: Figure) -> None:
    for axes, start in zip(figure.subplots(1, 2, sharey=True), ("", FEW), strict=True):
        shown = [one for one in r.cells if one.startswith(FEW) == bool(start)]
        for one in shown:
            values = [r.mean(one, name).mean for name in PARTS]
            axes.plot([part * r.settings.rounds for part in PARTS.values()], values, label=one.removeprefix(start))
        axes.set(xlabel="round", title="few noisy winners" if start else "fresh winners", ylim=(-0.03, 1.03))
        axes.legend()
        if not start:
            axes.set(ylabel="share that hits the good mode")


STUDY = Study(
    slug="seppo",
    title="Earlier checkpoints in the place of losers",
    claim="With winners alone, earlier checkpoints can be reference and generator of the other response, when a test on the "
    "winner decides whether their samples are pushed away or drawn in.",
    source="arXiv 2410.05255",
    settings=Settings,
    run=run,
    metrics={
        "base": "share of samples within 4 spreads of the good mode before training",
        "quarter": "the same after a quarter of the rounds",
        "half": "after half of them",
        "three quarters": "after three quarters of them",
        "final": "after the last",
        "best": "the largest of all rounds",
        "lost": "best minus final",
        "kept": "the share at the round with the smallest error on held-out winners",
        "flipped": "share of winners that the reference predicts better, mean over the rounds' last steps",
    },
    criteria=CRITERIA,
    tiny={"rounds": 2, "steps": 2, "batch": 8, "pool": 16, "few": 20, "held": 8, "base": 20, "samples": 16},
    plot=plot,
)
