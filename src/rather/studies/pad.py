"""Preference-aligned distillation, arXiv 2502.14272: does a student that follows a distribution over rankings keep margins?

Claim. A teacher's preferences over several responses, taken as a probability distribution over all their rankings, are a
better target for a student than pairwise labels: it learns how much better an answer is, not only that it is.

World. Prompts with four responses of six random features. The teacher's score is linear in them with some noise; the student
is linear too. Half of the prompts are trained on.

Arms. The library's `pad` with the Jensen-Shannon divergence, with the divergence that the released code computes, and with
the likelihood of the teacher's order alone (`vpd`), and `simpo` on each prompt's best and worst response with the margin of
the released comparison (0.3 beta). Same data, steps and optimizer.

Verdict. The claim needs: all arms order held-out responses about equally well, within 0.01 for `vpd`; but the student's
margins follow the teacher's with a slope between 0.9 and 1.1 under the divergence, and with one above 2 under `vpd` and
under pairs; and the held-out divergence of the two distributions is at least five times lower. It falls if `vpd`'s margins
are as calibrated: a slope between 0.8 and 1.25.

Our reading: the world and its sizes, and the bounds of the criteria. The paper reports win rates, not margins.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import torch
from pydantic import Field
from torch import Tensor

from rather.data.types import Comparison, Edge
from rather.methods.registry import get
from rather.objectives.plackett_luce import divergence, log_distribution
from rather.objectives.scores import Layout, Scores
from rather.studies.base import Criterion, Study, StudySettings
from rather.studies.figure import bars
from rather.studies.results import Finding, Results, Rows, every

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ARMS = {"js": "PAD", "code": "PAD as released", "vpd": "order alone", "pairs": "best against worst"}


class Settings(StudySettings):
    prompts: int = Field(600, ge=4, description="prompts; half of them are held out")
    responses: int = Field(4, ge=2, le=6, description="responses of each prompt")
    features: int = Field(6, ge=1, description="features of a response")
    strength: float = Field(0.12, gt=0, description="scale of the teacher's weights")
    noise: float = Field(0.02, ge=0, description="standard deviation of the teacher's noise")
    beta: float = Field(10.0, gt=0, description="scale of both sides' scores")
    steps: int = Field(400, ge=1, description="Adam steps over all training prompts")
    rate: float = Field(0.01, gt=0, description="learning rate")


@dataclass(frozen=True)
class World:
    """Features [P, n, d] and the teacher's scores [P, n] of training and held-out prompts."""

    features: Tensor
    teacher: Tensor
    held_features: Tensor
    held_teacher: Tensor


def make_world(settings: Settings, seed: int) -> World:
    random = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random, dtype=torch.float64)

    shape = (settings.prompts, settings.responses)
    features, weights = normal(*shape, settings.features), normal(settings.features)
    teacher = -1 + settings.strength * features @ weights + settings.noise * normal(*shape)
    half = settings.prompts // 2
    return World(features[:half], teacher[:half], features[half:], teacher[half:])


def layout_of(teacher: Tensor, arm: str) -> Layout:
    """Every prompt with its responses' ratings; its edges are those of the order, or best over worst alone."""
    comparisons = []
    for number, scores in enumerate(teacher.tolist()):
        if arm == "pairs":
            edges = (Edge(scores.index(max(scores)), scores.index(min(scores))),)
        else:
            edges = tuple(Edge(i, j) for i, a in enumerate(scores) for j, b in enumerate(scores) if a > b)
        comparisons.append(Comparison(f"prompt {number}", "", ("",) * len(scores), edges, scores=tuple(scores)))
    return Layout.of(comparisons, [1] * teacher.numel())


def train(settings: Settings, world: World, arm: str) -> Tensor:
    """[d] the student's weights. A response has one element, so its mean log-probability is its score."""
    if arm == "pairs":
        objective = get("simpo").objective(beta=settings.beta, gamma=0.3 * settings.beta)
    else:
        objective = get("pad").objective(beta=settings.beta, divergence=arm, group_size=max(settings.responses, 2))
    layout = layout_of(world.teacher, arm)
    counts, index = layout.counts(), torch.arange(layout.responses)
    flat = world.features.flatten(0, 1)
    weights = torch.zeros(settings.features, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([weights], lr=settings.rate)
    for _ in range(settings.steps):
        optimizer.zero_grad(set_to_none=True)
        objective(Scores(flat @ weights - 1, index), None, layout).loss(counts).backward()
        optimizer.step()
    return weights.detach()


def measure(settings: Settings, world: World, weights: Tensor) -> dict[str, float]:
    student, teacher = world.held_features @ weights, world.held_teacher
    pairs = list(combinations(range(settings.responses), 2))
    s, t = (torch.stack([x[:, i] - x[:, j] for i, j in pairs]) for x in (student, teacher))
    of_student, of_teacher = (log_distribution(settings.beta * x) for x in (student, teacher))
    return {
        "divergence": float(divergence(of_student, of_teacher).mean()),
        "slope": float((s * t).sum() / (t * t).sum()),
        "accuracy": float((s * t > 0).double().mean()),
    }


def run(settings: Settings, seed: int) -> Rows:
    world = make_world(settings, seed)
    return {name: measure(settings, world, train(settings, world, arm)) for arm, name in ARMS.items()}


def _of(r: Results, arm: str, metric: str) -> Any:
    return r.mean(ARMS[arm], metric)


def _steep(r: Results) -> Finding:
    return every(*(_of(r, arm, "slope").above(2.0) for arm in ("vpd", "pairs")))


def _closer(r: Results) -> Finding:
    return every(*(r.ratio(ARMS[arm], ARMS["js"], "divergence").above(5.0) for arm in ("vpd", "pairs")))


def _gap(r: Results, arm: str, bound: float) -> Finding:
    return r.difference(ARMS["js"], ARMS[arm], "accuracy").within(-bound, bound)


CRITERIA = (
    Criterion("same order", "held-out pair accuracy of PAD and of the order alone agree within 0.01",
              lambda r: _gap(r, "vpd", 0.01)),
    Criterion("margins", "PAD's margins follow the teacher's with a slope between 0.9 and 1.1",
              lambda r: _of(r, "js", "slope").within(0.9, 1.1)),
    Criterion("too steep", "those of the order alone and of pairs with one above 2", _steep),
    Criterion("distribution", "the held-out divergence of the order alone and of pairs is more than 5 times PAD's", _closer),
    Criterion("as calibrated", "the margins of the order alone have a slope between 0.8 and 1.25",
              lambda r: _of(r, "vpd", "slope").within(0.8, 1.25), "refutes"),
    Criterion("pairs", "held-out pair accuracy of PAD and of best against worst agree within 0.02",
              lambda r: _gap(r, "pairs", 0.02), "noted"),
    Criterion("as released", "the divergence of the released code gives a slope between 0.9 and 1.1 too",
              lambda r: _of(r, "code", "slope").within(0.9, 1.1), "noted"),
)  # fmt: skip


def plot(r: Results, figure: Figure) -> None:
    left, middle, right = figure.subplots(1, 3)
    bars(left, r, "slope")
    left.axvline(1.0, linewidth=1)
    left.set(xlabel="slope of the student's margins")
    bars(middle, r, "divergence")
    middle.set(xscale="log", xlabel="held-out divergence")
    middle.set_yticklabels([])
    bars(right, r, "accuracy")
    right.set(xlim=(0.9, 1.0), xlabel="held-out pair accuracy")
    right.set_yticklabels([])


STUDY = Study(
    slug="pad",
    title="Distilling a distribution over rankings",
    claim="A student that follows the teacher's distribution over rankings learns its margins; one that learns the order "
    "alone, or pairs, learns the order and not the margins.",
    source="arXiv 2502.14272",
    settings=Settings,
    run=run,
    metrics={
        "slope": "slope of the student's held-out margins on the teacher's (1: the same margins)",
        "divergence": "Jensen-Shannon divergence of held-out ranking distributions (nats)",
        "accuracy": "share of held-out pairs that the student orders as the teacher does",
    },
    criteria=CRITERIA,
    tiny={"prompts": 40, "steps": 20},
    seeds=10,
    plot=plot,
)
