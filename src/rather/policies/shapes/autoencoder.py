"""The autoencoder of shapes: what stands for a VAE in their pipelines, small and quick to train on a processor."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from rather.worlds.shapes.sloppy import captioned

BATCH, RATE = 32, 2e-3
_KL, _ABSOLUTE = 3e-4, 0.1  # weights of the divergence and of the absolute error beside the squared one
_PART = 1 << 20  # its pictures are others than those that denoisers learn from


class ShapesAutoencoder(ModelMixin, ConfigMixin):
    """A variational autoencoder of squares of f x f pixels, with convolutions between the squares only.

    It has the interface that diffusers' pipelines want of a VAE. ``AutoencoderKL`` convolves at every resolution, and on a
    processor learns these pictures several times more slowly.

    Args:
        latent_channels: of the code, C.
        width: channels of the convolutions.
        block_out_channels: one more than log2 f of them; pipelines read f from their number.
        scaling_factor, shift_factor: what pipelines multiply and shift latents by.
    """

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 12,
        width: int = 128,
        block_out_channels: Sequence[int] = (3, 3, 3),
        scaling_factor: float = 1.0,
        shift_factor: float = 0.0,
    ) -> None:
        super().__init__()
        side = 2 ** (len(block_out_channels) - 1)
        values = 3 * side**2
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(side), _conv(values, width), _Residual(width), *_out(width, 2 * latent_channels)
        )
        self.decoder = nn.Sequential(
            _conv(latent_channels, width), _Residual(width), _Residual(width), *_out(width, values),
            nn.PixelShuffle(side),
        )  # fmt: skip

    def encode(self, pixels: Tensor, return_dict: bool = True) -> Any:
        """[N, 3, H, W] to a distribution over [N, C, H/f, W/f]."""
        known = DiagonalGaussianDistribution(self.encoder(pixels))
        return AutoencoderKLOutput(latent_dist=known) if return_dict else (known,)

    def decode(self, latents: Tensor, return_dict: bool = True, generator: Any = None) -> Any:
        """[N, C, H/f, W/f] to pixels."""
        pixels = self.decoder(latents)
        return DecoderOutput(sample=pixels) if return_dict else (pixels,)

    @torch.no_grad()
    def rescale(self, seed: int) -> None:
        """Set the scaling factor so that latents of 1024 pictures have a standard deviation of one."""
        latents = self.encode(pictures(seed, _PART - 1, 1024)).latent_dist.mean
        self.register_to_config(scaling_factor=1 / float(latents.std()))


def loss(model: ShapesAutoencoder, seed: int, step: int) -> Tensor:
    """Squared and absolute error of the reconstruction, a mean over values, and the divergence from a normal distribution,
    nats a value of the picture."""
    pixels = pictures(seed, _PART + step, BATCH).to(model.device)
    known = model.encode(pixels).latent_dist
    off = model.decode(known.mean + known.std * torch.randn_like(known.mean)).sample - pixels
    return off.square().mean() + _ABSOLUTE * off.abs().mean() + _KL * known.kl().sum() / pixels.numel()


def pictures(seed: int, part: int, number: int) -> Tensor:
    """[N, 3, 32, 32] between -1 and 1."""
    return as_input([pixels for _, pixels in islice(captioned(seed, part), number)])


def as_input(images: Sequence[np.ndarray]) -> Tensor:
    """Images [side, side, 3] as the autoencoder takes them."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 127.5 - 1


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(*_out(width, width), *_out(width, width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


def _conv(inputs: int, outputs: int) -> nn.Module:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def _out(width: int, outputs: int) -> tuple[nn.Module, ...]:
    return nn.GroupNorm(8, width), nn.SiLU(), _conv(width, outputs)
