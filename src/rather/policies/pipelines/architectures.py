"""What differs between families of pipelines: what a caption becomes, and how the denoiser is called.

Each family is one small class; ``ARCHITECTURES`` finds it by the class that a pipeline's ``model_index.json`` names.
Inputs that a family keeps of a caption or an image have one row a response.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rather.policies.schedule import NoiseSchedule

FLUX_GUIDANCE = 3.5
"""Guidance scale that guidance-distilled models are told in training, as diffusers' own training scripts do."""


class _Direct:
    """A family whose pipeline takes guidance and start latents as they are."""

    def sampling(self, pipeline: Any, guidance: float | None, images: int, negative: bool = False) -> dict[str, Any]:
        """What the pipeline is told when it makes so many images.

        Args:
            guidance: the scale, the pipeline's own when left out.
            negative: a network of its own is guided away from, so the pipeline has to predict the empty caption.
        """
        return _scale(guidance)

    def start(self, noise: Tensor) -> Tensor:
        """``noise`` [R, C, H, W] as the pipeline's own call takes latents to start from."""
        return noise


class StableDiffusion(_Direct):
    """Stable Diffusion 1 and 2: a UNet that sees the states of one text encoder."""

    component = "unet"

    def texts(self, pipeline: Any, captions: Sequence[str], device: torch.device) -> dict[str, Tensor]:
        """What the denoiser sees of captions, [n, ...] each."""
        states, _ = pipeline.encode_prompt(list(captions), device, 1, False)
        return {"states": states}

    def predict(
        self,
        network: nn.Module,
        noisy: Tensor,
        timestep: Tensor,
        inputs: Mapping[str, Tensor],
        schedule: NoiseSchedule,
    ) -> Tensor:
        """The denoiser's prediction at ``noisy``, both [R, C, H, W], and ``timestep`` [R], a number of the schedule."""
        return network(noisy, timestep, encoder_hidden_states=inputs["states"], return_dict=False)[0]


class StableDiffusionXL(StableDiffusion):
    """Two text encoders, a pooled state, and the sizes and the crop that an image had."""

    def texts(self, pipeline: Any, captions: Sequence[str], device: torch.device) -> dict[str, Tensor]:
        states, _, pooled, _ = pipeline.encode_prompt(
            prompt=list(captions), device=device, do_classifier_free_guidance=False
        )
        return {"states": states, "pooled": pooled}

    def predict(
        self,
        network: nn.Module,
        noisy: Tensor,
        timestep: Tensor,
        inputs: Mapping[str, Tensor],
        schedule: NoiseSchedule,
    ) -> Tensor:
        added = {"text_embeds": inputs["pooled"], "time_ids": inputs["framing"]}
        return network(
            noisy, timestep, encoder_hidden_states=inputs["states"], added_cond_kwargs=added, return_dict=False
        )[0]


class StableDiffusion3(_Direct):
    """A transformer of velocities; it is told 1000 sigma as its time."""

    component = "transformer"

    def texts(self, pipeline: Any, captions: Sequence[str], device: torch.device) -> dict[str, Tensor]:
        some: Any = list(captions)
        states, _, pooled, _ = pipeline.encode_prompt(
            some, some, some, device=device, do_classifier_free_guidance=False
        )
        return {"states": states, "pooled": pooled}

    def predict(
        self,
        network: nn.Module,
        noisy: Tensor,
        timestep: Tensor,
        inputs: Mapping[str, Tensor],
        schedule: NoiseSchedule,
    ) -> Tensor:
        return network(
            hidden_states=noisy,
            timestep=1000 * _sigma(schedule, timestep, noisy),
            encoder_hidden_states=inputs["states"],
            pooled_projections=inputs["pooled"],
            return_dict=False,
        )[0]


class Flux:
    """A transformer of velocities over squares of 2 x 2 latents in a row; it is told sigma as its time."""

    component = "transformer"

    def texts(self, pipeline: Any, captions: Sequence[str], device: torch.device) -> dict[str, Tensor]:
        states, pooled, _ = pipeline.encode_prompt(
            prompt=list(captions), prompt_2=None, device=device, max_sequence_length=_longest(pipeline)
        )
        return {"states": states, "pooled": pooled}

    def sampling(self, pipeline: Any, guidance: float | None, images: int, negative: bool = False) -> dict[str, Any]:
        """A model that was distilled is told the scale, if there is no negative one; else it predicts the empty caption
        too. The pipeline's own scale is not meant for that: without one a negative model is given 3.5."""
        told: dict[str, Any] = {"max_sequence_length": _longest(pipeline)}
        if not negative and (guidance is None or pipeline.transformer.config.guidance_embeds):
            return told | _scale(guidance)
        scale = FLUX_GUIDANCE if guidance is None else guidance
        return told | {"true_cfg_scale": scale, "negative_prompt": [""] * images}

    def start(self, noise: Tensor) -> Tensor:
        return _packed(noise)

    def predict(
        self,
        network: nn.Module,
        noisy: Tensor,
        timestep: Tensor,
        inputs: Mapping[str, Tensor],
        schedule: NoiseSchedule,
    ) -> Tensor:
        rows, channels, height, width = noisy.shape
        config: Any = network.config
        guided = bool(getattr(config, "guidance_embeds", False))
        found = network(
            hidden_states=_packed(noisy),
            timestep=_sigma(schedule, timestep, noisy),
            guidance=noisy.new_full((rows,), FLUX_GUIDANCE) if guided else None,
            pooled_projections=inputs["pooled"],
            encoder_hidden_states=inputs["states"],
            txt_ids=noisy.new_zeros(inputs["states"].shape[1], 3),
            img_ids=_places(height // 2, width // 2, noisy),
            return_dict=False,
        )[0]
        squares = found.view(rows, height // 2, width // 2, channels, 2, 2)
        return squares.permute(0, 3, 1, 4, 2, 5).reshape(noisy.shape)


def text_encoders(pipeline: Any) -> dict[str, nn.Module]:
    """Those that a pipeline has, by name."""
    return {
        name: part
        for name, part in pipeline.components.items()
        if name.startswith("text_encoder") and part is not None
    }


def _scale(guidance: float | None) -> dict[str, Any]:
    return {} if guidance is None else {"guidance_scale": guidance}


def _longest(pipeline: Any) -> int:
    """Tokens of a caption for FLUX's second text encoder."""
    return min(512, pipeline.tokenizer_2.model_max_length)


def _sigma(schedule: NoiseSchedule, timestep: Tensor, like: Tensor) -> Tensor:
    """[R] share of noise at each timestep."""
    return schedule.sigma.to(timestep.device)[timestep].to(like.dtype)


def _packed(latents: Tensor) -> Tensor:
    """[R, H/2 * W/2, 4 C] of [R, C, H, W]: each square's values beside each other, by channel."""
    rows, channels, height, width = latents.shape
    squares = latents.view(rows, channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return squares.reshape(rows, (height // 2) * (width // 2), 4 * channels)


def _places(height: int, width: int, like: Tensor) -> Tensor:
    """[H * W, 3] zero, row and column of each square."""
    row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([torch.zeros_like(row), row, column], -1).reshape(-1, 3).to(like)


Architecture = StableDiffusion | StableDiffusion3 | Flux

ARCHITECTURES: dict[str, type[Architecture]] = {
    "StableDiffusionPipeline": StableDiffusion,
    "StableDiffusionXLPipeline": StableDiffusionXL,
    "StableDiffusion3Pipeline": StableDiffusion3,
    "FluxPipeline": Flux,
}
"""Class of a pipeline -> its family."""
