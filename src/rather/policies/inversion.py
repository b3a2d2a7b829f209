"""DDIM inversion: the noisy latent on the model's own deterministic path through a clean one.

One step from level s to level s' (arXiv 2010.02502 run backwards; what arXiv 2503.18454 and 2506.02698 train on):

    x0hat = (x_s - sigma_s eps) / signal_s,   x_{s'} = signal_{s'} x0hat + sigma_{s'} eps

eps is the network's, without guidance. ``eval_at="current"`` asks it at (x_s, s), ``"next"`` at (x_s, s'). With
``renoise`` (arXiv 2506.02698, the release) the step is taken twice: the second time with the mean of eps at x_s and eps
at where the first step arrived, both under one timestep.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from rather.policies.schedule import NoiseSchedule, Prediction, split

EvalAt = Literal["current", "next"]

Predict = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(x [n, ...], timestep [n], rows [n] of the responses) to the network's prediction [n, ...]."""


@dataclass(frozen=True)
class Levels:
    """The noise levels that each response passes through, all [L, R]; the first is where clean latents are taken to be.

    Attributes:
        timestep: what the network is told.
        signal, sigma: float64 factors on data and noise.
    """

    timestep: Tensor
    signal: Tensor
    sigma: Tensor


def levels_to(schedule: NoiseSchedule, timestep: Tensor, steps: int) -> Levels:
    """From timestep 0 through those of ``steps`` evenly spaced ones that lie before it to ``timestep`` [R] itself.

    So the last level is exactly t (best reading; the release of arXiv 2503.18454 stops at a level of its grid and goes
    on as if it were t). A response that has arrived stays.
    """
    grid = torch.arange(steps, device=timestep.device) * schedule.steps // steps
    passed = torch.minimum(grid[:, None], timestep[None, :])
    every = torch.cat([passed, timestep[None, :]])
    return Levels(every, schedule.signal.to(every.device)[every], schedule.sigma.to(every.device)[every])


@torch.no_grad()
def invert(
    clean: Tensor,
    levels: Levels,
    predict: Predict,
    *,
    prediction: Prediction = "epsilon",
    eval_at: EvalAt = "current",
    renoise: bool = False,
    eta: float = 0.0,
    noise: Callable[[int], Tensor] | None = None,
    lockstep: bool = False,
) -> Tensor:
    """[R, ...] latents at the last level, without gradient.

    Args:
        clean: [R, ...].
        eta: factor on a random term after each step, sqrt(v) times standard normal numbers with
            v = (sigma_s / sigma_s')^2 (1 - (signal_s' / signal_s)^2), DDIM's variance.
        noise: step number to the normal numbers [R, ...], for eta > 0.
        lockstep: ask the network in every step even when all responses have arrived: processes that share a sharded
            network have to ask it equally often.
    """
    x = clean.clone()

    def at(level: int, rows: Tensor) -> tuple[Tensor, Tensor]:
        shape = (-1, *[1] * (x.dim() - 1))
        signal, sigma = (side[level, rows].reshape(shape).to(x.dtype) for side in (levels.signal, levels.sigma))
        return signal, sigma

    for level in range(len(levels.timestep) - 1):
        moving = torch.nonzero(levels.sigma[level + 1] != levels.sigma[level]).flatten()
        if not (moving.numel() or lockstep):
            continue
        rows = moving if moving.numel() else torch.zeros(1, dtype=torch.long, device=x.device)
        start, here, there = x[rows], at(level, rows), at(level + 1, rows)
        told = levels.timestep[level if eval_at == "current" else level + 1, rows]

        def eps(
            at_point: Tensor, coefficients: tuple[Tensor, Tensor], told: Tensor = told, rows: Tensor = rows
        ) -> Tensor:
            predicted = predict(at_point, told, rows).to(x.dtype)
            return split(prediction, predicted, at_point, *coefficients)[1]

        first = eps(start, here)
        arrived = _step(start, first, here, there)
        if renoise:
            arrived = _step(start, (first + eps(arrived, there)) / 2, here, there)
        if eta and noise is not None:
            variance = (here[1] / there[1]).square() * (1 - (there[0] / here[0]).square())
            arrived = arrived + eta * variance.sqrt() * noise(level).to(x)[rows]
        if moving.numel():
            x[rows] = arrived
    return x


def _step(x: Tensor, eps: Tensor, here: tuple[Tensor, Tensor], there: tuple[Tensor, Tensor]) -> Tensor:
    return there[0] * (x - here[1] * eps) / here[0] + there[1] * eps
