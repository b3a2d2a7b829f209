"""SAIL, arXiv 2602.05380: does a model that labels its own samples go on improving from few human pairs?

Claim. From a few percent of the usual pairs a diffusion model labels its own samples by its implicit reward and improves
over the rounds; replaying the human pairs keeps it right.

World. Points in the plane: four prompts, each with a good mode at radius 1.5 and a bad one at 0.5, spread 0.12, and a
noise-predicting network trained on both, half and half. True utility: minus the distance to the good mode, at least -3.
Human pairs are two base samples to a prompt, labelled by Bradley-Terry on 4 times the utility: two samples of one mode
are nearly a coin.

Arms. Round 0: Diffusion-DPO (beta = 100, with the factor 1/2, on mean errors) from the base on 400 human pairs, 200 steps
of Adam (rate 1e-4, 128 pairs, clipped at 1). Three rounds more of 200 steps, each with the last round's model as start
and reference: 300 prompts with 8 samples each (20 steps of DDIM), scored by 10 draws against the base in the first of
them and against round 0 later; best and worst of each are a pair. SAIL: 25% of every batch are such pairs, the rest human
ones. All self: 100%. Random pair: 25%, of two random samples, ordered by the reward. Seeds only: human pairs alone, with
the same steps and references (the control). And DPO on 3,000 human pairs from the base for all 800 steps.

Verdict. The claim needs: SAIL's utility rises in two rounds after round 0; its self-labels are right for more than half
of the pairs in every round; and in the last round both are lower for all self. It falls if SAIL's utility after the last
round is not above that of seeds only.

Noted besides. Whether best and worst are better than random pairs, and whether SAIL comes to DPO on 3,000 pairs (within
0.05).

Our reading: judging the first round against the base (against round 0 itself all rewards would be 0), the world (the
accounts of the paper name none of this size) and every number in it, the bounds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field
from torch import nn

from rather.data.types import Comparison
from rather.methods.registry import get
from rather.policies.denoising import DenoisingPolicy
from rather.policies.points import PointsPolicy
from rather.rewards.implicit import Ends, ImplicitReward, best_and_worst, replayed
from rather.studies.base import Criterion, Study, StudySettings
from rather.studies.denoising import Pairs, base_model, lesson, train
from rather.studies.figure import lines
from rather.studies.results import Results, Rows
from rather.studies.sail_claims import ALONE, SAIL, SEEDS, cell, claims, last
from rather.worlds.points.truth import GOOD_RADIUS, PROMPTS, Points, directions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RANDOM, FULL = "random pair", "DPO, many pairs"
WORST = -3.0


class Settings(StudySettings):
    seeds: int = Field(400, ge=4, description="human pairs")
    many: int = Field(3000, ge=4, description="human pairs of the arm with many")
    rounds: int = Field(3, ge=2, description="rounds after round 0")
    steps: int = Field(200, ge=1, description="steps of Adam in a round")
    rate: float = Field(1e-4, gt=0, description="learning rate")
    batch: int = Field(128, ge=4, description="pairs of a step")
    beta: float = Field(100.0, gt=0, description="scale on half the mean error")
    share: float = Field(0.25, gt=0, lt=1, description="share of self-labelled pairs in a batch")
    prompts: int = Field(300, ge=4, description="prompts of a round")
    candidates: int = Field(8, ge=2, description="samples of each prompt")
    draws: int = Field(10, ge=1, description="timesteps and noises that a sample is scored on")
    sharpness: float = Field(4.0, gt=0, description="factor on the utility in the human labels")
    base: int = Field(4000, ge=1, description="steps of the base model's training")
    samples: int = Field(1000, ge=8, description="samples that are judged")


def utility(prompts: np.ndarray, points: Points) -> Points:
    """[N] minus the distance to the good mode; at least ``WORST``."""
    distance = np.linalg.norm(points - GOOD_RADIUS * directions(prompts), axis=-1)
    return np.maximum(np.nan_to_num(-distance, nan=WORST), WORST)


@dataclass(frozen=True)
class Labelled:
    """Pairs, and the share of them whose chosen point has the higher utility."""

    pairs: Pairs
    right: float


class World:
    """A seed's base model and human pairs."""

    def __init__(self, settings: Settings, seed: int) -> None:
        self.settings, self.seed = settings, seed
        self.policy: PointsPolicy = base_model(seed, settings.base)
        self.human = self._labelled(max(settings.many, settings.seeds))

    def _labelled(self, count: int) -> Pairs:
        """Pairs of base samples with labels of Bradley-Terry."""
        prompts = np.arange(count) % PROMPTS
        one, other = (
            self.policy.points(self.policy.network, prompts, seed=(self.seed << 8) + k, steps=20) for k in (1, 2)
        )
        gap = self.settings.sharpness * (utility(prompts, one) - utility(prompts, other))
        wrong = np.random.default_rng([self.seed, 6]).random(count) >= 1 / (1 + np.exp(-gap))
        return Pairs(prompts, one, other).flipped(wrong)

    def measure(self, network: nn.Module) -> dict[str, float]:
        prompts = np.arange(self.settings.samples) % PROMPTS
        points = self.policy.points(network, prompts, seed=self.seed)
        return {"utility": float(utility(prompts, points).mean())}

    def self_labelled(self, network: nn.Module, against: nn.Module, number: int, random_pair: bool) -> Labelled:
        """Pairs of the network's own samples, ordered by its implicit reward."""
        settings = self.settings
        prompts = np.arange(settings.prompts) % PROMPTS
        every_one = np.repeat(prompts, settings.candidates)
        points = self.policy.points(network, every_one, seed=(self.seed << 8) + 10 + number, steps=20)
        table = points.reshape(settings.prompts, settings.candidates, 2)
        scorer: DenoisingPolicy = self.policy
        judge = ImplicitReward(scorer, network, against, beta=settings.beta, draws=settings.draws, seed=self.seed)
        rows = [
            Comparison(f"round-{number}-{row}", int(prompt), tuple((float(x), float(y)) for x, y in table[row]))
            for row, prompt in enumerate(prompts)
        ]
        random = np.random.default_rng([self.seed, 7, number])
        found: list[tuple[int, Ends]] = []
        for row, rewards in enumerate(judge.rewards(rows)):
            of = random.choice(len(rewards), 2, replace=False) if random_pair else np.arange(len(rewards))
            ends = best_and_worst(rewards[of])
            if ends is not None:
                found.append((row, Ends(int(of[ends.best]), int(of[ends.worst]))))
        kept = np.array([row for row, _ in found])
        chosen = table[kept, [ends.best for _, ends in found]]
        rejected = table[kept, [ends.worst for _, ends in found]]
        right = utility(prompts[kept], chosen) > utility(prompts[kept], rejected)
        return Labelled(Pairs(prompts[kept], chosen, rejected), float(right.mean()))

    def batches(self, human: int, own: Pairs | None, share: float, number: int) -> Iterator[Pairs]:
        """For each step a batch with so large a share of self-labelled pairs, drawn with replacement."""
        random = np.random.default_rng([self.seed, 8, number])
        new, old = replayed(self.settings.batch, share if own is not None else 0.0)
        for _ in range(self.settings.steps):
            of_old = random.integers(human, size=old)
            of_new = random.integers(len(own.prompts) if own is not None else 1, size=new)
            parts = [(self.human, of_old), *([(own, of_new)] if own is not None else [])]
            yield Pairs(*(np.concatenate([pairs[side][rows] for pairs, rows in parts]) for side in range(3)))

    def dpo(
        self, start: nn.Module, batches: Iterator[Pairs], number: int, reference: nn.Module | None = None
    ) -> nn.Module:
        """Steps of Diffusion-DPO; the start is the reference unless another is given."""
        steps = lesson(self.policy, start if reference is None else reference, batches, (self.seed << 8) + number)
        objective = get("diffusion_dpo").objective(beta=self.settings.beta)
        return train(self.policy, start, objective, steps, self.settings.rate)


def run(settings: Settings, seed: int) -> Rows:
    world = World(settings, seed)
    base = world.policy.network
    rows: dict[str, Mapping[str, float]] = {"base": world.measure(base)}
    anchor = world.dpo(base, world.batches(settings.seeds, None, 0.0, 0), 0)
    rows["round 0"] = world.measure(anchor)
    for arm, share in {SAIL: settings.share, ALONE: 1.0, RANDOM: settings.share, SEEDS: 0.0}.items():
        network = anchor
        for number in range(1, settings.rounds + 1):
            own, told = None, {}
            if share:
                labelled = world.self_labelled(network, base if number == 1 else anchor, number, arm == RANDOM)
                own, told = labelled.pairs, {"right": labelled.right}
            network = world.dpo(network, world.batches(settings.seeds, own, share, number), number)
            rows[cell(arm, number)] = world.measure(network) | told
    network = base
    for number in range(settings.rounds + 1):
        network = world.dpo(network, world.batches(settings.many, None, 0.0, number), number, reference=base)
    rows[FULL] = world.measure(network)
    return rows


CRITERIA = (
    *claims("utility", "human pairs"),
    Criterion("best and worst", "best and worst are better than random pairs after the last round",
              lambda r: r.difference(last(r, SAIL), last(r, RANDOM), "utility").above(0.0), "noted"),
    Criterion("many pairs", "SAIL ends within 0.05 of DPO on many human pairs, or above",
              lambda r: r.difference(last(r, SAIL), FULL, "utility").above(-0.05), "noted"),
)  # fmt: skip


def plot(r: Results, figure: Figure) -> None:
    left, right = figure.subplots(1, 2)
    numbers = range(1, r.settings.rounds + 1)
    series = {arm: {number: cell(arm, number) for number in numbers} for arm in (SAIL, ALONE, RANDOM, SEEDS)}
    lines(left, r, "utility", {arm: {0: "round 0", **points} for arm, points in series.items()})
    left.axhline(r.mean(FULL, "utility").mean, color=left.xaxis.label.get_color(), linewidth=0.6)
    left.set(xlabel="round", ylabel="mean utility (line: DPO on many human pairs)")
    lines(right, r, "right", {arm: points for arm, points in series.items() if arm != SEEDS})
    right.axhline(0.5, color=right.xaxis.label.get_color(), linewidth=0.6)
    right.set(xlabel="round", ylabel="share of self-labels that are right")


STUDY = Study(
    slug="sail",
    title="A model that labels its own samples",
    claim="From few human pairs a diffusion model labels its own samples by its implicit reward and improves over the "
    "rounds; replaying the human pairs keeps it right.",
    source="arXiv 2602.05380",
    settings=Settings,
    run=run,
    metrics={
        "utility": "mean of minus the distance to the good mode, at least -3 each",
        "right": "share of the self-labelled pairs whose chosen point has the higher utility",
    },
    criteria=CRITERIA,
    tiny={
        "seeds": 12, "many": 24, "rounds": 2, "steps": 2, "batch": 8, "prompts": 6, "candidates": 3, "draws": 2,
        "base": 20, "samples": 16,
    },
    plot=plot,
)  # fmt: skip
