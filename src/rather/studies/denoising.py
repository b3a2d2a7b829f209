"""Training on the world of points, for studies: the lesson is made once, and every arm takes the same one."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from rather.objectives.base import Objective
from rather.objectives.scores import Layout, Scores
from rather.policies.base import Batch
from rather.policies.denoising import DenoisingDraw
from rather.policies.points import PointsPolicy, Process, open_points
from rather.policies.settings import PolicySettings
from rather.worlds.points.truth import PROMPTS, Points, rates


class Pairs(NamedTuple):
    """Prompts [N] int64 with two points each, [N, 2] float64."""

    prompts: np.ndarray
    chosen: Points
    rejected: Points

    def flipped(self, where: np.ndarray) -> Pairs:
        """The pairs with both points exchanged ``where`` [N] is true."""
        first = np.where(where[:, None], self.rejected, self.chosen)
        return Pairs(self.prompts, first, np.where(where[:, None], self.chosen, self.rejected))


@dataclass(frozen=True)
class Step:
    """What an optimizer step looks at: the same for every arm that is given the lesson.

    Attributes:
        counts: the denominators of its terms.
        reference: scores of the reference.
    """

    batch: Batch
    draw: DenoisingDraw
    counts: Mapping[str, float]
    reference: Scores


def base_model(seed: int, steps: int, process: Process = "diffusion") -> PointsPolicy:
    """The policy with the base model of this seed, after so many steps of pretraining; kept in the user's cache."""
    name = f"toy:points?seed={seed}&steps={steps}&process={process}"
    return open_points(PolicySettings.model_validate({"model": name}))


def batch_of(pairs: Pairs) -> Batch:
    """Pairs stacked as ``[chosen; rejected]``, keyed by position."""
    size = len(pairs.prompts)
    twice = torch.full((size,), 2)
    latents = torch.from_numpy(np.concatenate([pairs.chosen, pairs.rejected])).float()
    prompt = torch.from_numpy(np.concatenate([pairs.prompts, pairs.prompts]))
    return Batch(Layout.of_pairs(twice, twice), {"latents": latents, "prompt": prompt}, tuple(map(str, range(size))))


def lone(prompts: np.ndarray, points: Points) -> Batch:
    """Points [N, 2] that are compared with nothing, each a target, keyed by position."""
    index = torch.arange(len(prompts))
    none, nothing = index[:0], torch.empty(0)
    layout = Layout(
        lengths=torch.full_like(index, 2),
        prompt=index,
        winner=none,
        loser=none,
        edge_list=none,
        weight=nothing,
        probability=nothing,
        margin=nothing,
        desirable=torch.zeros_like(index),
        key=index,
    )
    inputs = {"latents": torch.from_numpy(points).float(), "prompt": torch.from_numpy(prompts)}
    return Batch(layout, inputs, tuple(map(str, range(len(prompts)))))


def scored(policy: PointsPolicy, network: nn.Module, batch: Batch, draw: DenoisingDraw) -> Scores:
    """Scores without gradient."""
    with torch.no_grad():
        return policy.score(network, batch, draw)


def lesson(policy: PointsPolicy, reference: nn.Module, pairs: Iterable[Pairs], seed: int) -> list[Step]:
    """One step for each batch of pairs, with a draw of its own: timestep and noise are shared in a pair."""
    steps = []
    for number, these in enumerate(pairs):
        batch = batch_of(these)
        draw = policy.draw(batch, (seed << 32) + number)
        steps.append(Step(batch, draw, batch.layout.counts(), scored(policy, reference, batch, draw)))
    return steps


def train(
    policy: PointsPolicy,
    start: nn.Module,
    objective: Objective,
    steps: Iterable[Step],
    rate: float,
) -> nn.Module:
    """A copy of ``start`` after one step of Adam for each of ``steps``; the norm of the gradient is clipped at 1."""
    network = copy.deepcopy(start).requires_grad_()
    adam = torch.optim.Adam(network.parameters(), lr=rate)
    for step in steps:
        reference = step.reference if objective.needs_reference else None
        outcome = objective(policy.score(network, step.batch, step.draw), reference, step.batch.layout)
        adam.zero_grad(set_to_none=True)
        outcome.loss(step.counts).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        adam.step()
        objective.advance(outcome.observations)
    return network.requires_grad_(False)


def judged(policy: PointsPolicy, network: nn.Module, count: int, seed: int, delta: float = 0.0) -> dict[str, float]:
    """Rates of ``good``, ``bad``, ``off`` and ``hit`` among so many samples (``rather.worlds.points.truth``)."""
    prompts = np.arange(count) % PROMPTS
    found = rates(prompts, policy.points(network, prompts, seed), delta)
    return {name: getattr(found, name) for name in ("good", "bad", "off", "hit")}
