"""How a clean latent becomes the noisy one that policy and reference are scored on.

forward     x_t = signal_t x_0 + sigma_t eps with fresh noise, one for a comparison (Diffusion-DPO, as released) or one for
            each response
inversion   x_t on the model's own deterministic path through x_0 (arXiv 2503.18454), optionally ReNoise-corrected
            (arXiv 2506.02698)
stored      forward, with the noise from which the response was generated (arXiv 2605.09433)

Whatever made x_t, there is one noise that links it to x_0, tau = (x_t - signal_t x_0) / sigma_t, and the target follows
from it. A method names one of these in ``Objective.noising``; without one a comparison shares its fresh noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from rather.errors import UserError
from rather.objectives.scores import Layout
from rather.policies.counter_random import normals
from rather.policies.inversion import EvalAt, Predict, invert, levels_to
from rather.policies.schedule import NoiseSchedule
from rather.policies.timesteps import Timesteps

Inverter = Literal["policy", "reference"]

EVERY_TIMESTEP = Timesteps()

_NOISE, _STEPS = 1, 2  # streams of the counter-based generator; the steps of an inversion take 2, 3, ...
_SPREAD = 0x9E3779B1  # odd and below 2^32, so that keys stay below 2^63


@dataclass(frozen=True)
class DenoisingDraw:
    """Where each response is scored; policy and reference get the same. Without gradient.

    Attributes:
        timestep: [R] int64.
        noisy: [R, ...] x_t.
        target: [R, ...] what the network should predict there; for noise prediction tau, the noise that links x_t to
            the clean latent.
        unprompted: [R] bool, whose prompt is left out; ``None``: nobody's.
    """

    timestep: Tensor
    noisy: Tensor
    target: Tensor
    unprompted: Tensor | None = None

    @staticmethod
    def of(schedule: NoiseSchedule, clean: Tensor, noise: Tensor, timestep: Tensor) -> DenoisingDraw:
        """Forward noising of ``clean`` [R, ...] by ``noise`` [R, ...]."""
        noise = noise.to(clean)
        noisy, target = schedule.noised(clean, noise, timestep), schedule.target(clean, noise, timestep)
        return DenoisingDraw(timestep, noisy.detach(), target.detach())


@dataclass(frozen=True)
class Given:
    """What a rule of noising has to work with.

    Attributes:
        clean: [R, ...] latents.
        stored: [R, ...] the noise that each response was generated from, NaN where unknown; ``None`` where the batch has
            none.
        predict: the inverting network's prediction.
    """

    schedule: NoiseSchedule
    layout: Layout
    clean: Tensor
    seed: int
    stored: Tensor | None
    predict: Predict

    def timesteps(self, rule: Timesteps) -> Tensor:
        """[R] one timestep for a comparison, the same for all its responses. Made on the CPU, as noise is, so that it is
        the same on every device."""
        drawn = torch.from_numpy(rule(self.seed, self.layout.key.cpu().numpy(), self.schedule.steps))
        return drawn.to(self.clean.device)[self.layout.prompt]

    def normal(self, stream: int, shared: bool = True) -> Tensor:
        """[R, ...] standard normal numbers, the same for all responses of a comparison, or independent."""
        return normal_numbers(self.layout, self.seed, stream, self.clean.shape[1:], shared=shared)


class Noising(Protocol):
    """Attributes: ``inverter``: whose predictions it asks for; ``None``: nobody's."""

    @property
    def inverter(self) -> Inverter | None: ...

    def __call__(self, given: Given) -> DenoisingDraw: ...


@dataclass(frozen=True)
class Forward:
    """Fresh noise.

    Attributes:
        shared: one noise for all responses of a comparison; otherwise one for each. The timestep is shared either way.
    """

    shared: bool = True
    timesteps: Timesteps = EVERY_TIMESTEP

    @property
    def inverter(self) -> Inverter | None:
        return None

    def __call__(self, given: Given) -> DenoisingDraw:
        noise = given.normal(_NOISE, self.shared)
        return DenoisingDraw.of(given.schedule, given.clean, noise, given.timesteps(self.timesteps))


@dataclass(frozen=True)
class Stored:
    """The noise that each response was generated from.

    Raises:
        UserError: a response has none.
    """

    timesteps: Timesteps = EVERY_TIMESTEP

    @property
    def inverter(self) -> Inverter | None:
        return None

    def __call__(self, given: Given) -> DenoisingDraw:
        if given.stored is None or bool(given.stored.isnan().any()):
            what = "a response does not come with the noise that it was generated from"
            fix = "give each comparison a column `noise`, one for each response, or choose another --noising.model"
            raise UserError(what, where="--noising.model stored", fix=fix)
        return DenoisingDraw.of(given.schedule, given.clean, given.stored, given.timesteps(self.timesteps))


@dataclass(frozen=True)
class Inversion:
    """DDIM inversion, see ``rather.policies.inversion``.

    Attributes:
        steps: size K of the grid of timesteps; about K t / T predictions for a response.
        inverter: the current policy (the release), or the reference.
        eta: of the random term after each step (0.1 in the release); its numbers are shared in a comparison, best
            reading.
    """

    steps: int = 10
    inverter: Inverter = "policy"
    eval_at: EvalAt = "current"
    renoise: bool = False
    eta: float = 0.0
    timesteps: Timesteps = EVERY_TIMESTEP

    def __call__(self, given: Given) -> DenoisingDraw:
        timestep = given.timesteps(self.timesteps)
        if self.eta and given.schedule.prediction == "flow":
            raise UserError("a flow has no random term of DDIM", where="--noising.eta", fix="leave it at 0")
        noisy = invert(
            given.clean,
            levels_to(given.schedule, timestep, self.steps),
            given.predict,
            prediction=given.schedule.prediction,
            eval_at=self.eval_at,
            renoise=self.renoise,
            eta=self.eta,
            noise=lambda step: given.normal(_STEPS + step),
            lockstep=torch.distributed.is_available() and torch.distributed.is_initialized(),
        )
        signal, sigma = given.schedule.coefficients(timestep, given.clean)
        tau = (noisy - signal * given.clean) / sigma
        return DenoisingDraw(timestep, noisy, given.schedule.target(given.clean, tau, timestep))


def normal_numbers(layout: Layout, seed: int, stream: int, shape: torch.Size, *, shared: bool) -> Tensor:
    """[R, *shape] float32 standard normal numbers by seed, key and stream, the same for all responses of a comparison, or
    independent. Made on the CPU, so that they are the same on every device."""
    keys = layout.key.cpu()
    if not shared:
        prompt = layout.prompt.cpu()
        keys = keys[prompt] ^ (number_in_comparison(prompt) * _SPREAD)
    drawn = torch.from_numpy(normals(seed, keys.numpy(), stream, shape.numel()))
    drawn = drawn.float().reshape(-1, *shape).to(layout.key.device)
    return drawn[layout.prompt] if shared else drawn


def number_in_comparison(prompt: Tensor) -> Tensor:
    """[R] each response's number, from 0, among those of its comparison [R]."""
    order = prompt.argsort(stable=True)
    sizes: Sequence[int] = torch.bincount(prompt).tolist()
    number = torch.empty_like(prompt)
    number[order] = torch.cat([torch.arange(size) for size in sizes]) if sizes else prompt
    return number
