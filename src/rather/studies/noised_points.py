"""Alignment of the models of points as studies do it: the library's draw, reference and loss, a plain optimizer."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from rather.data.types import Comparison
from rather.objectives.base import Objective
from rather.objectives.scores import Scores, stable_key
from rather.policies.base import Batch, Encoded
from rather.policies.noising import DenoisingDraw, Noising
from rather.policies.points import PointsPolicy
from rather.studies.base import StudySettings
from rather.training.drawing import make_draw
from rather.training.learner import Learner
from rather.training.references import Frozen
from rather.worlds.points.truth import PROMPTS, rates

_FRESH = 1_000_003  # seed of the samples that arms are measured on; of no training data


class PointsSettings(StudySettings):
    pretraining: int = Field(4_000, ge=1, description="steps of the base model's training")
    steps: int = Field(100, ge=1, description="steps of alignment")
    batch: int = Field(128, ge=1, description="pairs in a step")
    rate: float = Field(1e-4, gt=0, description="learning rate of Adam; gradients are clipped at norm 1")
    fresh: int = Field(2_000, ge=4, description="samples that a model is measured on")


def sampled(settings: PointsSettings, policy: PointsPolicy) -> tuple[np.ndarray, np.ndarray]:
    """Prompts [N] and fresh samples [N, 2]; the same noise for every model."""
    prompts = np.arange(settings.fresh) % PROMPTS
    return prompts, policy.points(policy.network, prompts, seed=_FRESH)


def measure(settings: PointsSettings, policy: PointsPolicy) -> dict[str, float]:
    """Shares of fresh samples that are nearer to the good mode, and that are far from both."""
    found = rates(*sampled(settings, policy))
    return {"good": found.good, "off": found.off}


@dataclass
class Run:
    """A copy of a base model, its reference, and what trains it.

    Args:
        comparisons: the training data, encoded once.
        seed: of batches and noise; arms with one seed see the same pairs and timesteps.
    """

    base: PointsPolicy
    objective: Objective
    comparisons: Sequence[Comparison]
    seed: int

    def __post_init__(self) -> None:
        self.policy = PointsPolicy(copy.deepcopy(self.base.network), process=self.base.process)
        self.learner = Learner(self.policy, self.objective)
        self.reference = Frozen(self.base, noising=self.objective.noising)
        self.encoded: list[Encoded] = self.policy.encode(self.comparisons)
        self.random = np.random.default_rng(self.seed)

    def batch(self, size: int) -> Batch:
        which = self.random.integers(len(self.encoded), size=size)
        # A pair may be met twice in a step: it then has the same noise twice.
        return self.policy.collate([self.encoded[index] for index in which])

    def draw(self, batch: Batch, step: int) -> DenoisingDraw:
        key = stable_key(f"{self.seed}/{step}")
        return make_draw(self.policy, self.learner, self.reference, self.objective.noising, batch, key)

    def loss(self, batch: Batch, step: int) -> Tensor:
        """The loss of one batch; advances nothing."""
        draw = self.draw(batch, step)
        found, _, _ = self.learner(batch, draw, self.reference.score(batch, draw), batch.layout.counts())
        return found

    def train(
        self, settings: PointsSettings, steps: int, marks: Collection[int], at: Callable[[PointsPolicy], Any]
    ) -> dict[int, Any]:
        """``at`` of the policy after each of the ``marks``."""
        self.objective.plan(steps)
        optimizer = torch.optim.Adam(self.policy.network.parameters(), lr=settings.rate, fused=True)
        found = {}
        for step in range(steps):
            optimizer.zero_grad(set_to_none=True)
            self.loss(self.batch(settings.batch), step).backward()
            torch.nn.utils.clip_grad_norm_(self.policy.network.parameters(), 1.0)
            optimizer.step()
            self.objective.advance({})
            if step + 1 in marks:
                found[step + 1] = at(self.policy)
        return found


@torch.no_grad()
def errors(policy: PointsPolicy, comparisons: Sequence[Comparison], noising: Noising, seed: int) -> Tensor:
    """[R] mean squared errors of a policy on its own draw."""
    batch = policy.collate(policy.encode(comparisons))
    scores: Scores = policy.score(policy.network, batch, policy.draw(batch, seed, noising))
    return -2 * scores.elements.reshape(len(batch.layout.lengths), -1).mean(1)
