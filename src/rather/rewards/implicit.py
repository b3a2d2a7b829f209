"""A model as the judge of its own samples: the implicit reward that preference training gives it.

    r(x) = beta mean over draws of (s_policy(x) - s_reference(x)),   p(one > other) = sigma(r_one - r_other)

With denoising scores, which are minus half a mean squared error, r = -(beta/2)(err - err_ref), averaged over timesteps
and noises before the sigmoid: SAIL (arXiv 2602.05380; the mean over elements, the order of the average and the shared
draws are the best reading). All responses to a prompt, and both networks, see the same draws, without which high noise
levels decide.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from rather.data.types import Comparison, Prompt, Response
from rather.errors import UserError
from rather.objectives.scores import Reduction, reduce_elements
from rather.policies.base import Policy
from rather.rewards.base import Judge, sigmoid


class ImplicitReward(Judge):
    """A policy against a reference.

    Args:
        network, reference: whom the policy scores with; the same weights would judge everything equal.
        beta: scale; matters to probabilities alone.
        draws: how many timesteps and noises; 1 will do where scores have no randomness.
        seed: of the draws, which also depend on the comparison's id.
    """

    name = "implicit"

    def __init__(
        self,
        policy: Policy,
        network: nn.Module,
        reference: nn.Module,
        *,
        beta: float = 1.0,
        reduce: Reduction = "mean",
        draws: int = 10,
        seed: int = 0,
    ) -> None:
        self.policy, self.network, self.reference = policy, network, reference
        self.beta, self.draws, self.seed = beta, draws, seed
        self.reduce: Reduction = reduce

    @torch.no_grad()
    def rewards(self, comparisons: Sequence[Comparison]) -> list[np.ndarray]:
        """[n] float64 rewards of the responses of each comparison.

        Raises:
            UserError: the policy cannot read one of them.
        """
        encoded = self.policy.encode(comparisons)
        if len(encoded) != len(comparisons):
            raise UserError(f"{len(comparisons) - len(encoded)} comparisons cannot be judged by this model")
        batch = self.policy.collate(encoded)
        total = torch.zeros(batch.layout.responses, dtype=torch.float64)
        for number in range(self.draws):
            draw = self.policy.draw(batch, (self.seed << 16) + number)
            own, other = (
                reduce_elements(self.policy.score(network, batch, draw), batch.layout.lengths, self.reduce)
                for network in (self.network, self.reference)
            )
            total += (own.double() - other.double()).cpu()
        values = (self.beta * total / self.draws).numpy()
        return np.split(values, np.cumsum([len(one.responses) for one in comparisons])[:-1])

    def score(self, prompt: Prompt, responses: Sequence[Response]) -> np.ndarray:
        return self.rewards([Comparison("judged", prompt, tuple(responses))])[0]

    def probability(self, preference: float) -> float:
        return sigmoid(preference)


class Ends(NamedTuple):
    """Indices of the best and the worst of some responses."""

    best: int
    worst: int


def best_and_worst(rewards: np.ndarray) -> Ends | None:
    """Of [n] rewards; of equal ones the first. ``None`` when all are equal, which says nothing."""
    if rewards.max() == rewards.min():
        return None
    return Ends(int(rewards.argmax()), int(rewards.argmin()))


def replayed(batch: int, share: float) -> tuple[int, int]:
    """How many of a batch are new and how many are replayed: the share is kept in every batch (halves are rounded up),
    since mixing whole sets of different sizes would not keep it."""
    new = math.floor(share * batch + 0.5)
    return new, batch - new
