"""Truncated roll-outs of a model as its own data: what Self-NPO (arXiv 2505.11777) regresses on instead of images.

A teacher's deterministic sampler runs a few steps and stops at x_t. Its clean estimate there is the target, and the
student predicts it from a later level s > t, where

    x_s = (alpha_s / alpha_t) x_t + sqrt(sigma_s^2 - sigma_t^2 alpha_s^2 / alpha_t^2) eps
    alpha^2 = abar,   sigma^2 = 1 - abar

so that x_s has the law of the model's own noised samples, without a sample being finished. The element score is minus
half the squared error of the student's clean estimate. All of this is in the draw: ``SelfRollouts`` is a denoising policy
with another draw, and the objective is maximum likelihood.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from rather.data.types import Comparison
from rather.objectives.scores import Scores
from rather.policies.base import Batch, Encoded
from rather.policies.counter_random import integers, normals
from rather.policies.denoising import DenoisingPolicy, denoising_scores
from rather.policies.guidance import guided
from rather.policies.noising import number_in_comparison
from rather.policies.schedule import NoiseSchedule, Predict

_START, _INDEX, _COUNT, _LEVEL, _NOISE = range(20, 25)  # streams of the counter-based generator
_FINE = 1 << 24


@dataclass(frozen=True)
class RolledOut:
    """Attributes:
    timestep: [R] the level s of what the student sees.
    noisy: [R, ...] x_s.
    target: [R, ...] the teacher's clean estimate at x_t.
    """

    timestep: Tensor
    noisy: Tensor
    target: Tensor


def grid(steps: int, points: int) -> Tensor:
    """[points] timesteps of a sampler, the i-th (i + 1) steps / points - 1."""
    return (torch.arange(1, points + 1) * steps) // points - 1


@torch.no_grad()
def roll_out(
    schedule: NoiseSchedule, predict: Predict, start: Tensor, index: Tensor, count: Tensor, points: int
) -> tuple[Tensor, Tensor]:
    """x_t [R, ...] and t [R] after ``count`` [R] DDIM steps down the grid from its timestep number ``index`` [R].

    Below the grid is timestep 0; a roll-out that has arrived there stays. (arXiv 2505.11777 as released, without its habit
    of taking the estimate one step earlier when a whole batch has arrived.)
    """
    times = torch.cat([torch.zeros(1, dtype=torch.long), grid(schedule.steps, points)]).to(start.device)
    place, last, x = index + 1, (index + 1 - count).clamp(min=0), start
    for _ in range(int((place - last).max()) if len(place) else 0):
        going = place > last
        clean, noise = schedule.split(predict(x, times[place]), x, times[place])
        place = torch.where(going, place - 1, place)
        x = torch.where(going.reshape(-1, *[1] * (x.dim() - 1)), schedule.noised(clean, noise, times[place]), x)
    return x, times[place]


def renoised(schedule: NoiseSchedule, noisy: Tensor, noise: Tensor, timestep: Tensor, later: Tensor) -> Tensor:
    """x_s [R, ...] from x_t ``noisy``: s = ``later`` [R] is at least t = ``timestep`` [R]."""
    alpha, sigma = schedule.coefficients(timestep, noisy)
    alpha_later, sigma_later = schedule.coefficients(later, noisy)
    kept = alpha_later / alpha
    return kept * noisy + (sigma_later**2 - (sigma * kept) ** 2).clamp(min=0).sqrt() * noise


def clean_scores(schedule: NoiseSchedule, predict: Predict, draw: RolledOut) -> Scores:
    """-1/2 (f(x_s, s) - target)^2 of each element, f the student's clean estimate."""
    clean, _ = schedule.split(predict(draw.noisy, draw.timestep), draw.noisy, draw.timestep)
    return denoising_scores(clean, draw.target)


class SelfRollouts:
    """A denoising policy that is scored on a teacher's truncated roll-outs. Responses are read for their number and shape,
    and with ``start="data"`` as where roll-outs start; the prompts are the data; one without a response has one roll-out.

    Args:
        policy: the policy; its network is the student.
        teacher: rolls out; a frozen copy (the paper), or one that follows the student (``follow``, as released).
        start: ``noise``: from pure noise at the last timestep, a number of steps drawn from 1 to ``steps`` of a sampler of
            so many (best reading: the paper truncates a sampler of 5 steps); ``data``: from the responses, noised to a
            timestep drawn from a grid of ``points``, ``steps`` steps (as released, whose images are not the model's).
        excess: the teacher predicts e + excess (e - e_without_prompt); 0 with the prompt, -1 without (as released for
            SD 1.5; -5 for SDXL). Not the usual guidance scale.
        steps, points: see ``start``.
    """

    provides: frozenset[str] = frozenset({"rollouts"})

    def __init__(
        self,
        policy: DenoisingPolicy,
        teacher: nn.Module,
        *,
        start: Literal["noise", "data"] = "noise",
        excess: float = 0.0,
        steps: int = 5,
        points: int = 25,
    ) -> None:
        self.policy, self.teacher, self.start, self.excess = policy, teacher, start, excess
        self.steps, self.points = steps, steps if start == "noise" else points
        self.network, self.schedule, self.kind = policy.network, policy.schedule, policy.kind
        # What else a policy may offer (``training.examine``), where this one does.
        for name in ("check", "illustrate"):
            if hasattr(policy, name):
                setattr(self, name, getattr(policy, name))

    @property
    def report(self) -> Any:
        """The policy's, of what it encoded last."""
        return getattr(self.policy, "report", None)

    def encode(self, comparisons: Sequence[Comparison]) -> list[Encoded]:
        if self.start == "noise" and not all(one.responses for one in comparisons):
            blank = (self.policy.blank(),)
            comparisons = [one if one.responses else replace(one, responses=blank) for one in comparisons]
        return self.policy.encode(comparisons)

    def collate(self, encoded: Sequence[Encoded]) -> Batch:
        return self.policy.collate(encoded)

    def predicting(self, network: nn.Module, batch: Batch, excess: float = 0.0) -> Predict:
        """The network's prediction for the prompts of a batch, with so much guidance."""

        def with_prompt(noisy: Tensor, timestep: Tensor) -> Tensor:
            return self.policy.predict(network, noisy, timestep, batch.inputs).to(noisy.dtype)

        if not excess:
            return with_prompt
        bare = self.policy.unprompted(batch.inputs)

        def without(noisy: Tensor, timestep: Tensor) -> Tensor:
            return self.policy.predict(network, noisy, timestep, bare).to(noisy.dtype)

        return guided(with_prompt, without, excess)

    @torch.no_grad()
    def draw(self, batch: Batch, seed: int) -> RolledOut:
        """Each response's roll-out: a function of ``seed``, its comparison's key, its place there, and the teacher."""
        latents = self.policy.clean(batch, seed)
        keys, size = batch.layout.key.cpu().numpy(), latents[0].numel()
        of = batch.layout.prompt.cpu()
        nth = number_in_comparison(of)
        most = int(nth.max()) + 1

        def normal(stream: int) -> Tensor:
            drawn = torch.from_numpy(normals(seed, keys, stream, most * size)).reshape(-1, most, size)
            return drawn[of, nth].reshape(latents.shape).to(latents)

        def below(stream: int, limit: int) -> Tensor:
            drawn = [torch.from_numpy(integers(seed, keys, stream + 10 * number, limit)) for number in range(most)]
            return torch.stack(drawn, 1)[of, nth].to(latents.device)

        if self.start == "noise":
            index = torch.full((len(latents),), self.points - 1, device=latents.device)
            count, begin = below(_COUNT, self.steps) + 1, normal(_START)
        else:
            index = below(_INDEX, self.points)
            count = torch.full_like(index, self.steps)
            times = grid(self.schedule.steps, self.points).to(latents.device)
            begin = self.schedule.noised(latents, normal(_START), times[index])
        teacher = self.predicting(self.teacher.to(latents.device), batch, self.excess)
        stopped, timestep = roll_out(self.schedule, teacher, begin, index, count, self.points)
        target, _ = self.schedule.split(teacher(stopped, timestep), stopped, timestep)
        above = self.schedule.steps - 1 - timestep
        later = timestep + 1 + (below(_LEVEL, _FINE) * above) // _FINE
        return RolledOut(later, renoised(self.schedule, stopped, normal(_NOISE), timestep, later), target)

    def score(self, network: nn.Module, batch: Batch, draw: RolledOut) -> Scores:
        return clean_scores(self.schedule, self.predicting(network, batch), draw)

    @torch.no_grad()
    def follow(self, network: nn.Module, decay: float = 0.999) -> None:
        """Move the teacher: decay * teacher + (1 - decay) * ``network``."""
        for own, other in zip(self.teacher.parameters(), network.parameters(), strict=True):
            own.lerp_(other, 1 - decay)

    def adapters_off(self, network: nn.Module) -> AbstractContextManager[None] | None:
        return self.policy.adapters_off(network)

    def fingerprint(self) -> str:
        return self.policy.fingerprint()

    def save(self, network: nn.Module, folder: Path) -> None:
        self.policy.save(network, folder)
