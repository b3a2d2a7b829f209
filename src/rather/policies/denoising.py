"""Denoising models as policies: the score of a response is a bound on its log-likelihood, one value per latent element.

    element score = -1/2 (network(x_t, t, c) - target)^2,   x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps

With ``reduce="mean"`` a method's beta is the published one of Diffusion-DPO (arXiv 2311.12908, released code: factor 1/2,
mean over elements); with ``reduce="sum"`` it is that number divided by the number of elements.

What a subclass adds: ``encode``, ``collate`` (``inputs["latents"]`` is [R, ...]) and ``predict``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rather.data.types import Comparison
from rather.objectives.scores import Layout, Scores
from rather.policies.base import Batch, Encoded
from rather.policies.counter_random import integers, normals
from rather.policies.schedule import NoiseSchedule

_TIMESTEP, _NOISE = 0, 1  # streams of the counter-based generator


@dataclass(frozen=True)
class DenoisingDraw:
    """How each response is noised; policy and reference get the same.

    Per response, so that a method may give the responses of a comparison different noise, or each its stored one.

    Attributes:
        timestep: [R] int64.
        noise: [R, ...] like the latents.
    """

    timestep: Tensor
    noise: Tensor


def shared_draw(layout: Layout, shape: Sequence[int], timesteps: int, seed: int) -> DenoisingDraw:
    """One uniform timestep and one noise [*shape] per comparison, the same for all its responses.

    A function of ``seed`` and the comparison's key alone. Made on the CPU, so that it is the same on every device.
    """
    keys = layout.key.cpu().numpy()
    size = int(torch.Size(shape).numel())
    timestep = torch.from_numpy(integers(seed, keys, _TIMESTEP, timesteps))
    noise = torch.from_numpy(normals(seed, keys, _NOISE, size)).float().reshape(-1, *shape)
    device = layout.key.device
    return DenoisingDraw(timestep.to(device)[layout.prompt], noise.to(device)[layout.prompt])


def denoising_scores(predicted: Tensor, target: Tensor) -> Scores:
    """-1/2 squared error of each element, [R * elements], float32 at least.

    Args:
        predicted, target: [R, ...].
    """
    wide = torch.promote_types(torch.promote_types(predicted.dtype, target.dtype), torch.float32)
    elements = -0.5 * (predicted.to(wide) - target.to(wide)).square().flatten()
    responses = len(predicted)
    each = elements.numel() // max(responses, 1)
    return Scores(elements, torch.arange(responses, device=elements.device).repeat_interleave(each))


class DenoisingPolicy:
    """What all denoising policies share.

    Args:
        network: the denoiser; trained and saved.
        schedule: noise levels and what is predicted.
    """

    kind = "diffusion"
    provides: frozenset[str] = frozenset()  # a bound is no likelihood

    def __init__(self, network: nn.Module, schedule: NoiseSchedule) -> None:
        self.network = network
        self.schedule = schedule

    def encode(self, comparisons: Sequence[Comparison]) -> list[Encoded]:
        raise TypeError(f"{type(self).__name__} does not define encode")

    def collate(self, encoded: Sequence[Encoded]) -> Batch:
        raise TypeError(f"{type(self).__name__} does not define collate")

    def predict(self, network: nn.Module, noisy: Tensor, timestep: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        """The network's prediction [R, ...] at ``noisy`` [R, ...] and ``timestep`` [R], given a batch's inputs."""
        raise TypeError(f"{type(self).__name__} does not define predict")

    def unprompted(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """A batch's inputs with the prompt that says nothing in the place of every prompt."""
        raise TypeError(f"{type(self).__name__} does not define unprompted")

    def draw(self, batch: Batch, seed: int) -> DenoisingDraw:
        latents: Tensor = batch.inputs["latents"]
        return shared_draw(batch.layout, latents.shape[1:], self.schedule.steps, seed)

    def score(self, network: nn.Module, batch: Batch, draw: DenoisingDraw) -> Scores:
        """-1/2 squared denoising error per latent element at the draw's timestep and noise.

        A response's mean over elements is half the negative denoising loss of the diffusion papers.
        """
        latents: Tensor = batch.inputs["latents"]
        noise = draw.noise.to(latents)
        noisy = self.schedule.noised(latents, noise, draw.timestep)
        predicted = self.predict(network, noisy, draw.timestep, batch.inputs)
        return denoising_scores(predicted, self.schedule.target(latents, noise, draw.timestep))

    def adapters_off(self, network: nn.Module) -> AbstractContextManager[None] | None:
        return None

    def fingerprint(self) -> str:
        raise TypeError(f"{type(self).__name__} does not define fingerprint")

    def save(self, network: nn.Module, folder: Path) -> None:
        raise TypeError(f"{type(self).__name__} does not define save")
