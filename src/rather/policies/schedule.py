"""The noise schedule of a diffusion model: how much noise at which timestep, what is predicted, and DDIM sampling.

x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps,   abar_t = prod_{s <= t} (1 - beta_s)        (arXiv 2006.11239 eq. 4)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Prediction = Literal["epsilon", "velocity"]


@dataclass(frozen=True)
class NoiseSchedule:
    """Attributes:
    alpha_bar: [T] float64, the share of signal variance left at each timestep.
    prediction: what the network predicts: the noise, or v = sqrt(abar) eps - sqrt(1 - abar) x_0 (arXiv 2202.00512).
    """

    alpha_bar: Tensor
    prediction: Prediction = "epsilon"

    @staticmethod
    def stable_diffusion(steps: int = 1000, prediction: Prediction = "epsilon") -> NoiseSchedule:
        """The schedule of Stable Diffusion 1, 2 and XL: betas are squares of numbers evenly spaced."""
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, steps, dtype=torch.float64).square()
        return NoiseSchedule((1 - betas).cumprod(0), prediction)

    @property
    def steps(self) -> int:
        return self.alpha_bar.numel()

    def coefficients(self, timestep: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """sqrt(abar_t) and sqrt(1 - abar_t), [N, 1, ...] to multiply ``like`` [N, ...], in its type."""
        abar = self.alpha_bar.to(timestep.device)[timestep].reshape(-1, *[1] * (like.dim() - 1))
        return abar.sqrt().to(like.dtype), (1 - abar).sqrt().to(like.dtype)

    def noised(self, clean: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """x_t [N, ...] of ``clean`` and ``noise`` [N, ...] at ``timestep`` [N]."""
        signal, sigma = self.coefficients(timestep, clean)
        return signal * clean + sigma * noise

    def target(self, clean: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """What the network should predict, [N, ...]."""
        if self.prediction == "epsilon":
            return noise
        signal, sigma = self.coefficients(timestep, clean)
        return signal * noise - sigma * clean

    def split(self, predicted: Tensor, noisy: Tensor, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """Clean estimate and noise estimate, [N, ...] each, of a prediction at x_t."""
        signal, sigma = self.coefficients(timestep, noisy)
        if self.prediction == "epsilon":
            return (noisy - sigma * predicted) / signal, predicted
        return signal * noisy - sigma * predicted, sigma * noisy + signal * predicted


@torch.no_grad()
def ddim(schedule: NoiseSchedule, predict: Callable[[Tensor, Tensor], Tensor], start: Tensor, steps: int) -> Tensor:
    """Deterministic DDIM samples [N, ...] (arXiv 2010.02502 eq. 12 with eta 0) from noise ``start`` [N, ...].

    Args:
        predict: (x_t [N, ...], timestep [N]) to the network's prediction.
        steps: number of predictions; timesteps are evenly spaced from the last to the first.
    """
    times = torch.linspace(schedule.steps - 1, 0, steps, dtype=torch.float64).round().long().tolist()
    x = start
    for index, time in enumerate(times):
        timestep = torch.full((len(x),), time, device=x.device)
        clean, noise = schedule.split(predict(x, timestep).to(x.dtype), x, timestep)
        if index + 1 == len(times):
            return clean
        x = schedule.noised(clean, noise, torch.full_like(timestep, times[index + 1]))
    return x
