"""Frozen convolutions of small images as one matrix product.

torch's convolution on a processor brings the weights into an order of its own in every call, forward and backward. Where the
images of a call have together less than half as many pixels as the layer has channels, that takes longer than the rest. Here

    y[o, p] = b[o] + sum over c, k of W[o, (c, k)] x[c, p + k]

is one product with the weights as they lie, and the gradient of x is the product with their transpose, summed over the
kernel's places k in float32.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rather.policies.precision import product_dtype

_MANY = 1 << 21
"""Weights of a layer that do not stay in a processor's cache; with fewer the order costs little."""


def use_products(network: nn.Module) -> None:
    """Let frozen convolutions work as this module says where they run on a processor, in place.

    Weights and their names stay.
    """
    for layer in network.modules():
        if type(layer) is nn.Conv2d and _fits(layer):
            layer.__class__ = ProductConv2d


class ProductConv2d(nn.Conv2d):
    """As ``nn.Conv2d`` where images have many pixels, or lie on an accelerator."""

    def forward(self, input: Tensor) -> Tensor:
        x = input
        if x.device.type != "cpu" or x.dim() != 4 or not _few_pixels(x, self.out_channels):
            return super().forward(x)
        return _Product.apply(x.to(product_dtype(x)), self.weight, self.bias)


def _fits(layer: nn.Conv2d) -> bool:
    height, width = layer.kernel_size
    same = height == width and height % 2 == 1 and layer.padding in ("same", (height // 2, width // 2))
    plain = layer.groups == 1 and layer.stride == layer.dilation == (1, 1) and layer.padding_mode == "zeros"
    frozen = not any(p.requires_grad for p in layer.parameters())
    return same and plain and frozen and layer.weight.numel() >= _MANY and layer.weight.is_contiguous()


def _few_pixels(x: Tensor, channels: int) -> bool:
    return 2 * x.numel() // x.shape[1] <= channels


class _Product(torch.autograd.Function):
    """x [n, in, h, w], W [out, in, k, k], b [out] or none -> [n, out, h, w] in the type of x; k is odd."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        number, _, height, width = x.shape
        kept = weight.to(x.dtype).flatten(1)
        rows = _neighbours(x, weight.shape[-1])
        found = kept @ rows if bias is None else torch.addmm(bias.to(x.dtype)[:, None], kept, rows)
        ctx.save_for_backward(weight)
        return found.view(-1, number, height, width).transpose(0, 1).contiguous()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (weight,), above = ctx.saved_tensors, gradients[0]
        number, _, height, width = above.shape
        side = weight.shape[-1]
        parts = weight.to(above.dtype).flatten(1).t() @ above.transpose(0, 1).flatten(1)
        parts = parts.view(-1, side, side, number, height, width)
        sums = torch.promote_types(above.dtype, torch.float32)
        wide = parts.new_zeros(len(parts), number, height + side - 1, width + side - 1, dtype=sums)
        for i in range(side):
            for j in range(side):
                wide[..., i : i + height, j : j + width] += parts[:, i, j]
        edge = side // 2
        inner = wide[..., edge : edge + height, edge : edge + width]
        return inner.to(above.dtype).transpose(0, 1).contiguous(), None, None


def _neighbours(x: Tensor, side: int) -> Tensor:
    """[in side side, n h w]: of each pixel the square around it, zeros beyond the edge."""
    number, channels, height, width = x.shape
    edge = side // 2
    wide = F.pad(x, (edge, edge, edge, edge)).contiguous()
    image, channel, row, column = wide.stride()
    shape, steps = (channels, side, side, number, height, width), (channel, row, column, image, row, column)
    return wide.as_strided(shape, steps).reshape(channels * side * side, -1)
