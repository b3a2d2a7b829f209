"""FiFA, arXiv 2410.10166: do a few well-chosen pairs beat all of them?

Claim. Half a per cent of a human preference set, chosen by a proxy reward's margin, the quality of prompts and their
diversity, makes Diffusion-DPO converge faster and better than the whole set.

World. 400 prompts, vectors around 8 centres (60% around one), pairs of feature vectors x in R^20, reward
x . (theta + prompt). 20,000 pairs get Bradley-Terry labels (slope 2), of which a share is flipped. The proxy reward is the
true one plus N(0, 0.5). The policy is log-linear in x and in x times the prompt, so DPO is logistic and the reference drops
out. Accuracy is over noise-free pairs, balanced over the centres.

Arms, each 300 Adam steps of 64 pairs. All pairs, and the same with ten times the steps; 2.5% at random; 2.5% by signed
margin, by signed margin and diversity, by absolute margin; and, as a control of leakage, by the signed margin of a proxy
that is itself fitted to the flipped labels.

Verdict. The claim needs: with 30% flips the pairs of best signed margin beat all pairs by more than 0.05 at equal steps;
with 10% they are not worse by more than 0.03; random pairs are worse than all pairs at both. It falls if, with 30% flips,
random pairs come within 0.01 of those of best margin, or all pairs with ten times the steps do.

Our reading: everything but the three terms of the score (its form, the world, the bounds). Prompts are of one quality here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from rather.functional import loss
from rather.inspection.fifa import Fifa, best
from rather.inspection.neighbours import neighbour_distance
from rather.studies.base import Criterion, Study, StudySettings
from rather.studies.figure import bars
from rather.studies.results import Estimate, Finding, Results, Rows, every

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SLOPE = 2.0
ARMS = (
    "all",
    "all, ten times the steps",
    "random",
    "signed margin",
    "signed margin and diversity",
    "absolute margin",
    "fitted proxy",
)


class Settings(StudySettings):
    pairs: int = Field(20_000, ge=100, description="labelled pairs")
    prompts: int = Field(400, ge=16, description="prompts")
    centres: int = Field(8, ge=2, description="centres that prompts lie around")
    dimensions: int = Field(20, ge=2, description="features")
    low: float = Field(0.1, ge=0, lt=0.5, description="share of flipped labels, the lower")
    high: float = Field(0.3, ge=0, lt=0.5, description="share of flipped labels, the higher")
    noise: float = Field(0.5, ge=0, description="standard deviation of the proxy reward's error")
    keep: float = Field(0.025, gt=0, le=1, description="share of the pairs that is kept")
    steps: int = Field(300, ge=1, description="Adam steps")
    batch: int = Field(64, ge=1, description="pairs of a step")
    rate: float = Field(0.02, gt=0, description="learning rate")
    tested: int = Field(4_000, ge=10, description="noise-free pairs of the test")


@dataclass(frozen=True)
class World:
    """Prompts [P, d], the centre of each [P], and theta [d]."""

    prompts: Tensor
    centre: Tensor
    theta: Tensor

    def reward(self, features: Tensor, prompt: Tensor) -> Tensor:
        """[..., N] of features [..., N, d]."""
        return (features * (self.theta + self.prompts[prompt])).sum(-1)


@dataclass(frozen=True)
class Pairs:
    """N labelled pairs, the labelled winner first: features [2, N, d], prompt [N], whether the label is wrong [N]."""

    features: Tensor
    prompt: Tensor
    wrong: Tensor

    def design(self, world: World) -> Tensor:
        """[N, d + d^2] difference of the policy's features: x, and x times the prompt."""
        x = self.features[0] - self.features[1]
        crossed = x[:, :, None] * world.prompts[self.prompt][:, None, :]
        return torch.cat([x, crossed.flatten(1)], 1)


def make_world(settings: Settings, random: torch.Generator) -> World:
    d, scale = settings.dimensions, 0.5 * settings.dimensions**-0.5
    centres = torch.randn(settings.centres, d, generator=random, dtype=torch.float64) * scale
    first = int(0.6 * settings.prompts)
    centre = torch.cat(
        [torch.zeros(first).long(), 1 + torch.arange(settings.prompts - first) % (settings.centres - 1)]
    )
    around = torch.randn(settings.prompts, d, generator=random, dtype=torch.float64) * scale / 3
    theta = torch.randn(d, generator=random, dtype=torch.float64) * scale
    return World(centres[centre] + around, centre, theta)


def label(settings: Settings, world: World, flip: float, random: torch.Generator) -> Pairs:
    prompt = torch.randint(settings.prompts, (settings.pairs,), generator=random)
    features = torch.randn(2, settings.pairs, settings.dimensions, generator=random, dtype=torch.float64)
    ahead = world.reward(features[0], prompt) - world.reward(features[1], prompt)
    drawn = torch.rand(2, settings.pairs, generator=random, dtype=torch.float64)
    first = (drawn[0] < torch.sigmoid(SLOPE * ahead)) ^ (drawn[1] < flip)
    ordered = torch.where(first[None, :, None], features, features.flip(0))
    return Pairs(ordered, prompt, first != (ahead > 0))


def fit(settings: Settings, design: Tensor, random: torch.Generator, steps: int | None = None) -> Tensor:
    """[d + d^2] weights of the policy after DPO (beta 1) on rows of ``design``."""
    weights = torch.zeros(design.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([weights], lr=settings.rate)
    for _ in range(steps or settings.steps):
        rows = torch.randint(len(design), (settings.batch,), generator=random)
        margin = design[rows] @ weights
        none = torch.zeros_like(margin)
        optimizer.zero_grad()
        loss("dpo", margin, none, none, none, beta=1.0).loss.backward()
        optimizer.step()
    return weights.detach()


def accuracy(settings: Settings, world: World, weights: Tensor, random: torch.Generator) -> float:
    """Share of noise-free pairs in the right order, each centre counting alike."""
    each = max(1, settings.tested // settings.centres)
    shares = []
    for centre in range(settings.centres):
        own = (world.centre == centre).nonzero().flatten()
        prompt = own[torch.randint(len(own), (each,), generator=random)]
        features = torch.randn(2, each, settings.dimensions, generator=random, dtype=torch.float64)
        ahead = world.reward(features[0], prompt) - world.reward(features[1], prompt)
        pairs = Pairs(features, prompt, ahead < 0)
        shares.append(((pairs.design(world) @ weights > 0) == (ahead > 0)).double().mean())
    return float(torch.stack(shares).mean())


def chosen(settings: Settings, fifa: Fifa, margin: Tensor, distance: np.ndarray) -> list[int]:
    """The pairs that FiFA keeps, by margins [N] and distances [N]; prompts are of one quality."""
    terms = fifa.terms(margin.numpy(), np.zeros(len(distance)), distance)
    return best(fifa.score(terms), max(1, round(settings.keep * len(distance))))


def run(settings: Settings, seed: int) -> Rows:
    random = torch.Generator().manual_seed(seed)
    world = make_world(settings, random)
    alone = neighbour_distance(world.prompts.numpy())
    found: dict[str, dict[str, float]] = {}
    for flip in (settings.low, settings.high):
        pairs = label(settings, world, flip, random)
        design = pairs.design(world)
        truth = world.reward(pairs.features, pairs.prompt)
        proxy = truth + settings.noise * torch.randn(truth.shape, generator=random, dtype=torch.float64)
        fitted = fit(settings, design, random)
        margin, distance = proxy[0] - proxy[1], alone[pairs.prompt.numpy()]
        everything = list(range(len(design)))
        some = torch.randperm(len(design), generator=random)[: max(1, round(settings.keep * len(design)))]
        arms = {
            "random": some.tolist(),
            "signed margin": chosen(settings, Fifa(0.0, 0.0), margin, distance),
            "signed margin and diversity": chosen(settings, Fifa(0.0, 0.5), margin, distance),
            "absolute margin": chosen(settings, Fifa(0.0, 0.0, "abs"), margin, distance),
            "fitted proxy": chosen(settings, Fifa(0.0, 0.0), design @ fitted, distance),
        }
        weights = {name: fit(settings, design[rows], random) for name, rows in arms.items()}
        weights |= {"all": fitted, "all, ten times the steps": fit(settings, design, random, 10 * settings.steps)}
        for name, learned in weights.items():
            rows = arms.get(name, everything)
            found[cell(name, flip)] = {
                "accuracy": accuracy(settings, world, learned, torch.Generator().manual_seed(seed)),
                "wrong": float(pairs.wrong[rows].double().mean()),
                "prompts": float(len(set(pairs.prompt[rows].tolist()))),
            }
    return found


def cell(arm: str, flip: float) -> str:
    return f"{arm}, flips {flip:g}"


def _gap(r: Results, one: str, other: str, noise: str = "high", metric: str = "accuracy") -> Estimate:
    flip = getattr(r.settings, noise)
    return r.difference(cell(one, flip), cell(other, flip), metric)


def _random_is_worse(r: Results) -> Finding:
    return every(*(_gap(r, "random", "all", noise).below(0.0) for noise in ("high", "low")))


CRITERIA = (
    Criterion("margin", "with many flips the best 2.5% by signed margin beat all pairs by more than 0.05",
              lambda r: _gap(r, "signed margin", "all").above(0.05)),
    Criterion("few flips", "with few flips they are not worse by more than 0.03",
              lambda r: _gap(r, "signed margin", "all", "low").above(-0.03)),
    Criterion("random", "random pairs are worse than all pairs, with many and with few flips", _random_is_worse),
    Criterion("luck", "with many flips random pairs come within 0.01 of the best by margin",
              lambda r: _gap(r, "random", "signed margin").above(-0.01), "refutes"),
    Criterion("patience", "with many flips all pairs with ten times the steps come within 0.01 of the best by margin",
              lambda r: _gap(r, "all, ten times the steps", "signed margin").above(-0.01), "refutes"),
    Criterion("patience, few flips", "with few flips all pairs with ten times the steps come within 0.01 of them",
              lambda r: _gap(r, "all, ten times the steps", "signed margin", "low").above(-0.01), "noted"),
    Criterion("diversity", "with many flips diversity adds between 0 and 0.02",
              lambda r: _gap(r, "signed margin and diversity", "signed margin").within(0.0, 0.02), "noted"),
    Criterion("absolute", "with many flips the absolute margin is worse than all pairs",
              lambda r: _gap(r, "absolute margin", "all").below(0.0), "noted"),
    Criterion("leakage", "a proxy fitted to the flipped labels gains less than the independent one",
              lambda r: _gap(r, "fitted proxy", "signed margin").below(0.0), "noted"),
)  # fmt: skip


def plot(r: Results, figure: Figure) -> None:
    for place, flip in zip(figure.subplots(1, 2), (r.settings.low, r.settings.high), strict=True):
        bars(place, r, "accuracy", [cell(arm, flip) for arm in ARMS])
        place.set(xlabel=f"accuracy, {flip:.0%} flips", xlim=(0.5, 1))
        place.set_yticks(range(len(ARMS)), ARMS if flip == r.settings.low else [""] * len(ARMS))


STUDY = Study(
    slug="fifa",
    title="A few good pairs",
    claim="A few pairs chosen by the margin of a proxy reward, and by the diversity of their prompts, teach more than all "
    "pairs.",
    source="arXiv 2410.10166",
    settings=Settings,
    run=run,
    metrics={
        "accuracy": "share of noise-free pairs that the policy orders as the true reward does, balanced over the centres",
        "wrong": "share of the training pairs whose label is against the true reward",
        "prompts": "different prompts among the training pairs",
    },
    criteria=CRITERIA,
    tiny={"pairs": 400, "prompts": 40, "dimensions": 6, "steps": 30, "keep": 0.1, "tested": 200},
    seeds=10,
    plot=plot,
)
