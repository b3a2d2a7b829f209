"""Denoising models as policies: the score of a response is a bound on its log-likelihood, one value per latent element.

    element score = -1/2 (network(x_t, t, c) - target)^2

How x_t and its target are made is ``rather.policies.noising``: forward noising unless a method asks for more.
With ``reduce="mean"`` a method's beta is the published one of Diffusion-DPO (arXiv 2311.12908, released code: factor 1/2,
mean over elements); with ``reduce="sum"`` it is that number divided by the number of elements.

What a subclass adds: ``encode``, ``collate`` and ``predict``. Every tensor of a batch's ``inputs`` has one row a response:
``inputs["latents"]`` [R, ...] and, where the data has it, ``inputs["noise"]`` [R, ...], the noise that each was generated
from (NaN where unknown).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rather.data.types import Comparison, Response
from rather.objectives.scores import Scores
from rather.policies.base import Batch, Encoded
from rather.policies.noising import DenoisingDraw, Forward, Given, Noising
from rather.policies.schedule import NoiseSchedule


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
    provides: frozenset[str] = frozenset({"noising"})  # and no likelihood: the score is a bound

    def __init__(self, network: nn.Module, schedule: NoiseSchedule) -> None:
        self.network = network
        self.schedule = schedule

    @property
    def timesteps(self) -> int:
        """How many there are; a draw's ``timestep`` is below."""
        return self.schedule.steps

    def encode(self, comparisons: Sequence[Comparison]) -> list[Encoded]:
        raise TypeError(f"{type(self).__name__} does not define encode")

    def collate(self, encoded: Sequence[Encoded]) -> Batch:
        raise TypeError(f"{type(self).__name__} does not define collate")

    def blank(self) -> Response:
        """A response of the usual shape that says nothing."""
        raise TypeError(f"{type(self).__name__} does not define blank")

    def predict(self, network: nn.Module, noisy: Tensor, timestep: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        """The network's prediction [R, ...] at ``noisy`` [R, ...] and ``timestep`` [R], given a batch's inputs."""
        raise TypeError(f"{type(self).__name__} does not define predict")

    def unprompted(self, inputs: Mapping[str, Any], rows: Tensor | None = None) -> dict[str, Any]:
        """A batch's inputs with the prompt that says nothing in the place of every prompt, or of those of ``rows`` [R]."""
        raise TypeError(f"{type(self).__name__} does not define unprompted")

    def clean(self, batch: Batch, seed: int) -> Tensor:
        """[R, ...] the latents of a batch; a policy whose latents are distributions samples them, by ``seed`` and key."""
        return batch.inputs["latents"]

    @torch.no_grad()
    def draw(
        self, batch: Batch, seed: int, noising: Noising | None = None, network: nn.Module | None = None
    ) -> DenoisingDraw:
        """Where the responses are scored.

        Args:
            noising: how they are noised; fresh noise, shared in a comparison, when left out.
            network: the one that inverts, for a ``noising`` that does; the policy's own when left out.
        """
        inputs = batch.inputs

        def predict(noisy: Tensor, timestep: Tensor, rows: Tensor) -> Tensor:
            some = {name: x[rows] if isinstance(x, Tensor) else x for name, x in inputs.items()}
            return self.predict(network or self.network, noisy, timestep, some)

        given = Given(self.schedule, batch.layout, self.clean(batch, seed), seed, inputs.get("noise"), predict)
        return (noising or Forward())(given)

    def score(self, network: nn.Module, batch: Batch, draw: DenoisingDraw) -> Scores:
        """-1/2 squared denoising error per latent element at the draw's noisy latents.

        A response's mean over elements is half the negative denoising loss of the diffusion papers.
        """
        inputs = batch.inputs if draw.unprompted is None else self.unprompted(batch.inputs, draw.unprompted)
        predicted = self.predict(network, draw.noisy.to(inputs["latents"]), draw.timestep, inputs)
        return denoising_scores(predicted, draw.target)

    def adapters_off(self, network: nn.Module) -> AbstractContextManager[None] | None:
        return None

    def fingerprint(self) -> str:
        raise TypeError(f"{type(self).__name__} does not define fingerprint")

    def save(self, network: nn.Module, folder: Path) -> None:
        raise TypeError(f"{type(self).__name__} does not define save")
