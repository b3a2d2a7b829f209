"""Pixels as latents, without loss: what stands for a VAE in pipelines that work on pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn


class PixelCode(ModelMixin, ConfigMixin):
    """Squares of f x f pixels become channels, and back; the standard deviation of a latent is zero.

    It has the interface that diffusers' pipelines want of a VAE, and one number in the place of weights, which says type and
    device.

    Args:
        latent_channels: 3 f^2.
        block_out_channels: one more than log2 f of them; pipelines read f from their number.
        scaling_factor, shift_factor: what pipelines multiply and shift latents by.
    """

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 12,
        block_out_channels: Sequence[int] = (3, 3),
        scaling_factor: float = 1.0,
        shift_factor: float = 0.0,
    ) -> None:
        super().__init__()
        self.factor = 2 ** (len(block_out_channels) - 1)
        if latent_channels != 3 * self.factor**2:
            raise ValueError(f"squares of side {self.factor} have {3 * self.factor**2} values, not {latent_channels}")
        self.place = nn.Parameter(torch.zeros(1), requires_grad=False)

    def encode(self, pixels: Tensor, return_dict: bool = True) -> Any:
        """[N, 3, H, W] to a distribution without variance over [N, 3 f^2, H/f, W/f]."""
        mean = nn.functional.pixel_unshuffle(pixels, self.factor)
        known = DiagonalGaussianDistribution(torch.cat([mean, torch.zeros_like(mean)], 1), deterministic=True)
        return AutoencoderKLOutput(latent_dist=known) if return_dict else (known,)

    def decode(self, latents: Tensor, return_dict: bool = True, generator: Any = None) -> Any:
        """The inverse of ``encode``."""
        pixels = nn.functional.pixel_shuffle(latents, self.factor)
        return DecoderOutput(sample=pixels) if return_dict else (pixels,)
