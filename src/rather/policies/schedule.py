"""How much noise at which timestep, what a network predicts of it, and deterministic sampling.

x_t = signal_t x_0 + sigma_t eps

diffusion (variance preserving)   signal = sqrt(abar_t), sigma = sqrt(1 - abar_t)      (arXiv 2006.11239 eq. 4)
rectified flow (a straight line)  signal = 1 - s, sigma = s                            (arXiv 2209.03003 eq. 1)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Prediction = Literal["epsilon", "velocity", "flow"]

Predict = Callable[[Tensor, Tensor], Tensor]
"""(x_t [N, ...], timestep [N]) to the network's prediction [N, ...]."""


@dataclass(frozen=True)
class NoiseSchedule:
    """Attributes:
    signal, sigma: [T] float64, factors on the clean latent and on the noise at each timestep; noise grows with it.
    prediction: what the network predicts: the noise, v = signal eps - sigma x_0 (arXiv 2202.00512), or, for a flow, the
        velocity eps - x_0.
    """

    signal: Tensor
    sigma: Tensor
    prediction: Prediction = "epsilon"

    @staticmethod
    def stable_diffusion(steps: int = 1000, prediction: Prediction = "epsilon") -> NoiseSchedule:
        """The schedule of Stable Diffusion 1, 2 and XL: betas are squares of numbers evenly spaced."""
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, steps, dtype=torch.float64).square()
        return NoiseSchedule.preserving((1 - betas).cumprod(0), prediction)

    @staticmethod
    def preserving(alpha_bar: Tensor, prediction: Prediction = "epsilon") -> NoiseSchedule:
        """Variance preserving, of ``alpha_bar`` [T], the share of signal variance left."""
        return NoiseSchedule(alpha_bar.sqrt(), (1 - alpha_bar).sqrt(), prediction)

    @staticmethod
    def rectified_flow(steps: int = 1000, shift: float = 1.0) -> NoiseSchedule:
        """Noise shares s = 1/T, 2/T, ..., 1, moved to shift s / (1 + (shift - 1) s) as Stable Diffusion 3 does (arXiv
        2403.03206 eq. 23): above 1 more of the timesteps are noisy."""
        share = torch.arange(1, steps + 1, dtype=torch.float64) / steps
        sigma = shift * share / (1 + (shift - 1) * share)
        return NoiseSchedule(1 - sigma, sigma, "flow")

    @property
    def steps(self) -> int:
        return self.sigma.numel()

    @property
    def alpha_bar(self) -> Tensor:
        """[T] the share of signal variance left at each timestep."""
        return self.signal.square()

    def coefficients(self, timestep: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """signal_t and sigma_t, [N, 1, ...] to multiply ``like`` [N, ...], in its type."""
        shape = (-1, *[1] * (like.dim() - 1))
        signal, sigma = (
            x.to(timestep.device)[timestep].reshape(shape).to(like.dtype) for x in (self.signal, self.sigma)
        )
        return signal, sigma

    def noised(self, clean: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """x_t [N, ...] of ``clean`` and ``noise`` [N, ...] at ``timestep`` [N]."""
        signal, sigma = self.coefficients(timestep, clean)
        return signal * clean + sigma * noise

    def target(self, clean: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """What the network should predict, [N, ...]."""
        if self.prediction == "epsilon":
            return noise
        if self.prediction == "flow":
            return noise - clean
        signal, sigma = self.coefficients(timestep, clean)
        return signal * noise - sigma * clean

    def split(self, predicted: Tensor, noisy: Tensor, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """Clean estimate and noise estimate, [N, ...] each, of a prediction at x_t."""
        return split(self.prediction, predicted, noisy, *self.coefficients(timestep, noisy))

    def times(self, steps: int) -> list[int]:
        """Timesteps of ``steps`` predictions from noise to data: evenly spaced from the last to the first; for a flow,
        so that all steps, the last one to sigma = 0 too, are of one length in sigma."""
        if self.prediction == "flow":
            return [round(self.steps * (steps - k) / steps) - 1 for k in range(steps)]
        return torch.linspace(self.steps - 1, 0, steps, dtype=torch.float64).round().long().tolist()


def split(
    prediction: Prediction, predicted: Tensor, noisy: Tensor, signal: Tensor, sigma: Tensor
) -> tuple[Tensor, Tensor]:
    """Clean estimate and noise estimate of a prediction at ``noisy`` = signal x_0 + sigma eps, all [N, ...]."""
    if prediction == "epsilon":
        return (noisy - sigma * predicted) / signal, predicted
    if prediction == "flow":
        return noisy - sigma * predicted, noisy + signal * predicted
    return signal * noisy - sigma * predicted, sigma * noisy + signal * predicted


@torch.no_grad()
def ddim(schedule: NoiseSchedule, predict: Predict, start: Tensor, steps: int) -> Tensor:
    """Deterministic samples [N, ...] from noise ``start`` [N, ...]: DDIM (arXiv 2010.02502 eq. 12 with eta 0), which for
    a flow is Euler's method.

    Args:
        steps: number of predictions, at ``NoiseSchedule.times``.
    """
    times = schedule.times(steps)
    x = start
    for index, time in enumerate(times):
        timestep = torch.full((len(x),), time, device=x.device)
        clean, noise = schedule.split(predict(x, timestep).to(x.dtype), x, timestep)
        if index + 1 == len(times):
            return clean
        x = schedule.noised(clean, noise, torch.full_like(timestep, times[index + 1]))
    return x
