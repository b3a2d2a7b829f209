"""FiFA on images, arXiv 2410.10166: do a few well-chosen pairs beat all of them, in the world of coloured shapes?

Claim. A small part of a preference set, chosen by a proxy reward's margin, the quality of prompts and their diversity, makes
Diffusion-DPO converge faster and better than the whole set.

World. That of the study ``shapes``, with the rectified flow, which gains more from pairs there. The eight images of each
caption are put together two by two at random; a program's grade orders them (equal ones are left out), 4,000 pairs are
taken, and 30% of the labels are flipped. The proxy reward of an image is its grade plus N(0, 0.5). What is measured is the
total of held-out captions, by the program and without the noise. Pairs, flips and noise are drawn anew in each seed, from
the same images.

Arms. The base; and Diffusion-DPO for as many steps as 0.75 passes over all pairs have, on all pairs; on 5% at random; on 5%
by signed margin, by signed margin and diversity (gamma = 1/2), by absolute margin; and on all pairs with four times the
steps (ten times would take as long as all the rest). A prompt's neighbours are those by the words of captions, counted
and scaled to length one; prompts are of one quality, so alpha is 0. Learning rate and beta are those of the study
``shapes``; nothing was tuned here.

Verdict. The claim needs: the pairs of best signed margin raise the base's total, and more than all pairs do at equal steps.
It falls if random pairs come within 0.01 (a percentage point) of those of best margin, or all pairs with four times the
steps do. With three seeds an interval is 2.5 standard deviations of the seeds' differences to each side: only effects of
several points are seen. Whether few pairs cost anything, diversity and the absolute margin are noted.

[inferred] Everything but the three terms of the score (its form, the world, its numbers and the bounds); the paper filters
people's choices by a reward model, and an LLM rates the prompts. The proxy here is the truth with noise: a proxy that is
wrong in the way of the labels would gain less (study ``fifa``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from rather.data.types import Comparison, Edge
from rather.inspection.fifa import Fifa, best
from rather.inspection.neighbours import neighbour_distance
from rather.studies import shapes
from rather.studies.base import Criterion, Study
from rather.studies.figure import bars
from rather.studies.results import Results, Rows
from rather.worlds.shapes.words import WORDS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ALL, LONGER, RANDOM = "all pairs", "all pairs, more steps", "random"
SIGNED, DIVERSE, ABSOLUTE = "signed margin", "signed margin and diversity", "absolute margin"
ARMS = ("base", ALL, RANDOM, SIGNED, DIVERSE, ABSOLUTE, LONGER)


class Settings(shapes.Settings):
    processes: tuple[str, ...] = Field(("flow",), min_length=1, max_length=1, description="base model")
    pairs: int = Field(4000, ge=2, description="labelled pairs, at most")
    flips: float = Field(0.3, ge=0, lt=0.5, description="share of flipped labels")
    noise: float = Field(0.5, ge=0, description="standard deviation of the proxy reward's error")
    keep: float = Field(0.05, gt=0, le=1, description="share of the pairs that is kept")
    epochs: float = Field(0.75, gt=0, description="passes over all pairs; steps are the same where fewer are kept")
    more: int = Field(4, ge=2, description="factor on the steps of the arm with more")
    per_task: int = Field(50, ge=1, description="held-out captions of each task")


@dataclass(frozen=True)
class Labelled:
    """N pairs; whether each label is wrong [N], and what the proxy reward says the labelled winner is ahead [N]."""

    pairs: Sequence[Comparison]
    wrong: np.ndarray
    margin: np.ndarray


def labelled(settings: Settings, process: str, seed: int) -> Labelled:
    random = np.random.default_rng([seed, 9])
    found = []
    for row, one in enumerate(shapes.made(settings, process)):
        order = random.permutation(len(one.images))
        couples = [sorted(map(int, couple)) for couple in zip(order[::2], order[1::2], strict=False)]
        found += [(row, one, *couple) for couple in couples if one.scores[couple[0]] != one.scores[couple[1]]]
    taken = [found[index] for index in random.permutation(len(found))[: settings.pairs]]
    made = (one.pair(f"own-{row}-{better}-{worse}", better, worse) for row, one, better, worse in taken)
    pairs = [pair for pair in made if pair is not None]
    proxy = np.array([pair.scores for pair in pairs]) + settings.noise * random.standard_normal((len(pairs), 2))
    wrong = random.random(len(pairs)) < settings.flips
    ahead = np.where(wrong, -1.0, 1.0) * (proxy[:, 0] - proxy[:, 1])
    told = [replace(pair, edges=(Edge(1, 0),)) if off else pair for pair, off in zip(pairs, wrong, strict=True)]
    return Labelled(told, wrong, ahead)


def kept(settings: Settings, fifa: Fifa, data: Labelled) -> list[int]:
    """The pairs that FiFA keeps."""
    captions = [pair.prompt for pair in data.pairs]
    unique = sorted(set(captions))
    alone = dict(zip(unique, neighbour_distance(bags(unique)), strict=True))
    terms = fifa.terms(data.margin, np.zeros(len(captions)), np.array([alone[caption] for caption in captions]))
    return best(fifa.score(terms), _few(settings, data))


def _few(settings: Settings, data: Labelled) -> int:
    return max(1, round(settings.keep * len(data.pairs)))


def bags(captions: Sequence[str]) -> np.ndarray:
    """[n, words] how often a caption has each word, of length one."""
    counts = np.array([[caption.split().count(word) for word in WORDS] for caption in captions], np.float64)
    return counts / np.linalg.norm(counts, axis=1, keepdims=True)


def run(settings: Settings, seed: int) -> Rows:
    (process,) = settings.processes
    data = labelled(settings, process, seed)
    everything = list(range(len(data.pairs)))
    steps = max(1, round(settings.epochs * math.ceil(len(everything) / settings.batch)))
    arms = {
        ALL: (everything, steps),
        RANDOM: (everything[: _few(settings, data)], steps),  # they are in random order
        SIGNED: (kept(settings, Fifa(0.0, 0.0), data), steps),
        DIVERSE: (kept(settings, Fifa(0.0, 0.5), data), steps),
        ABSOLUTE: (kept(settings, Fifa(0.0, 0.0, "abs"), data), steps),
        LONGER: (everything, settings.more * steps),
    }
    rows: dict[str, Mapping[str, float]] = {"base": shapes.untrained(settings, process, seed)}
    for name, (taken, long) in arms.items():
        pairs, own = [data.pairs[row] for row in taken], {"beta": settings.beta, "max_steps": long}
        rows[name] = shapes.trained(settings, process, seed, "diffusion_dpo", own, pairs) | {
            "wrong": float(data.wrong[taken].mean()),
            "prompts": float(len({pair.prompt for pair in pairs})),
        }
    return rows


CRITERIA = (
    Criterion("gain", "the best pairs by signed margin raise the total of the base", shapes.above(SIGNED, "base")),
    Criterion("margin", "they raise it more than all pairs do in as many steps", shapes.above(SIGNED, ALL)),
    Criterion("luck", "random pairs come within 0.01 of the best by margin",
              lambda r: r.difference(RANDOM, SIGNED, "total").above(-0.01), "refutes"),
    Criterion("patience", "all pairs with more steps come within 0.01 of the best by margin",
              lambda r: r.difference(LONGER, SIGNED, "total").above(-0.01), "refutes"),
    Criterion("random", "random pairs are worse than all pairs",
              lambda r: r.difference(RANDOM, ALL, "total").below(0.0), "noted"),
    Criterion("margin over random", "the best pairs by margin are better than random ones", shapes.above(SIGNED, RANDOM),
              "noted"),
    Criterion("diversity", "with diversity the total is higher than by margin alone", shapes.above(DIVERSE, SIGNED),
              "noted"),
    Criterion("absolute", "by absolute margin it is lower than with all pairs",
              lambda r: r.difference(ABSOLUTE, ALL, "total").below(0.0), "noted"),
)  # fmt: skip


def plot(r: Results, figure: Figure) -> None:
    left, right = figure.subplots(1, 2)
    for axes, metric, says in ((left, "total", "total"), (right, "wrong", "share of wrong labels in training")):
        bars(axes, r, metric, ARMS)
        axes.set(xlabel=says)


STUDY = Study(
    slug="shapes-fifa",
    title="A few good pairs of images of shapes",
    claim="A few pairs of images, chosen by the margin of a proxy reward and by the diversity of their captions, teach more "
    "than all pairs.",
    source="arXiv 2410.10166",
    settings=Settings,
    run=run,
    metrics={
        **shapes.STUDY.metrics,
        "wrong": "share of the training pairs whose label is against the program's grade",
        "prompts": "different captions among the training pairs",
    },
    criteria=CRITERIA,
    tiny={"captions": 12, "images": 4, "epochs": 1.0, "batch": 8, "keep": 0.3, "per_task": 1, "more": 2},
    plot=plot,
    threads=None,
    requires=("diffusers", "PIL"),
    seeds=3,
)
