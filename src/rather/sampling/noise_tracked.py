"""Pairs of a model's own samples that remember the noise they were made from (arXiv 2605.09433, section 2).

Each prompt gets two samples from two noises; a reward orders them. What is stored is the latent as it was sampled, its
noise before any scaling, and both rewards. ``regeneration_error`` tells whether noise and sample still belong together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import nn

from rather.data.types import Comparison, Edge

Reward = Callable[[NDArray[np.int64], NDArray[np.float64]], NDArray[np.float64]]
"""(prompts [N], samples [N, ...]) to rewards [N]."""


class FromNoise(Protocol):
    """A policy whose samples are a function of their prompt and noise."""

    @property
    def network(self) -> nn.Module: ...

    def start_noise(self, count: int, seed: int) -> np.ndarray: ...

    def from_noise(self, network: nn.Module, prompts: np.ndarray, noise: np.ndarray, steps: int) -> np.ndarray: ...


def noise_tracked_pairs(
    policy: FromNoise, prompts: NDArray[np.int64], reward: Reward, seed: int, steps: int = 50
) -> list[Comparison]:
    """A pair of samples for each of ``prompts`` [N], the one with the higher reward first.

    ``scores`` holds both rewards, ``extras["noise"]`` both noises. Of a tie the first sample counts as the winner: its
    reward gap says that there is nothing to learn.

    Args:
        steps: of the sampler, without guidance.
    """
    twice = np.repeat(prompts, 2)
    noise = policy.start_noise(len(twice), seed)
    samples = policy.from_noise(policy.network, twice, noise, steps)
    rewards = reward(twice, samples)
    made = []
    for row, prompt in enumerate(prompts):
        first = 2 * row
        order = (first, first + 1) if rewards[first] >= rewards[first + 1] else (first + 1, first)
        made.append(
            Comparison(
                id=f"tracked-{seed}-{row}",
                prompt=int(prompt),
                responses=tuple(tuple(samples[i].tolist()) for i in order),
                edges=(Edge(0, 1),),
                scores=tuple(float(rewards[i]) for i in order),
                extras={"noise": [noise[i].tolist() for i in order]},
            )
        )
    return made


def regeneration_error(policy: FromNoise, pairs: Sequence[Comparison], steps: int = 50) -> float:
    """Largest difference between a stored sample and the one that its stored noise gives again."""
    prompts = np.array([pair.prompt for pair in pairs for _ in pair.responses])
    noise: Any = np.array([row for pair in pairs for row in pair.extras["noise"]], np.float32)
    stored = np.array([sample for pair in pairs for sample in pair.responses])
    return float(np.abs(policy.from_noise(policy.network, prompts, noise, steps) - stored).max())
