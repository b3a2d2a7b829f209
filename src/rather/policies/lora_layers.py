"""Linear layers with low-rank adapters of peft in one step of autograd.

peft adds an adapter's product to its layer's in six operations, casts what comes in to the adapter's type (float32) and
keeps that copy for the backward pass, once for each layer that shares an input. Here

    y = x W' + b + s (x A') B'

is one operation that keeps x as it comes, and x A'. Frozen weights are cast anew in the backward pass rather than kept in
the compute type. Parameters, names and files are peft's.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn

from rather.policies.precision import product_dtype


def fuse(network: nn.Module) -> None:
    """Let all linear layers with adapters in ``network`` work as this module says, in place."""
    for layer in network.modules():
        if type(layer) is Linear:
            layer.__class__ = FusedLinear


class FusedLinear(Linear):
    """As peft's where more is asked than one plain adapter: several at once, dropout in training, a bias of the adapter's,
    merged weights, another kind of layer below, weights that lie in several processes."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        name = None if args or kwargs else self._alone()
        if name is None:
            return super().forward(x, *args, **kwargs)
        base, first, second = self.get_base_layer(), self.lora_A[name], self.lora_B[name]
        return _LowRank.apply(
            x.to(product_dtype(x)), base.weight, base.bias, first.weight, second.weight, self.scaling[name]
        )

    def _alone(self) -> str | None:
        """The only adapter at work, where it is a plain one."""
        base = self.get_base_layer()
        if self.disable_adapters or self.merged or type(base) is not nn.Linear:
            return None
        if hasattr(base.weight, "ds_id"):  # DeepSpeed, third stage: weights are there in their own layer's call only
            return None
        names = [name for name in self.active_adapters if name in self.lora_A]
        if len(names) != 1 or names[0] in self.lora_variant or self.lora_B[names[0]].bias is not None:
            return None
        dropout = self.lora_dropout[names[0]]
        return names[0] if isinstance(dropout, nn.Identity) or not self.training else None


class _LowRank(torch.autograd.Function):
    """x [..., in], W [out, in], b [out] or none, A [r, in], B [out, r] -> [..., out] in the type of x."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, first: Tensor, second: Tensor, scaling: float
    ) -> Tensor:
        dtype, rows = x.dtype, x.reshape(-1, x.shape[-1])
        inner = rows @ first.to(dtype).t()
        found = F.linear(rows, weight.to(dtype), None if bias is None else bias.to(dtype))
        found.addmm_(inner, (scaling * second).to(dtype).t())
        ctx.save_for_backward(rows, inner, weight, first, second)
        ctx.scaling, ctx.shape = scaling, x.shape
        return found.view(*x.shape[:-1], -1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        rows, inner, weight, first, second = ctx.saved_tensors
        dtype = rows.dtype
        above = gradients[0].reshape(-1, gradients[0].shape[-1]).to(dtype)
        of_inner = above @ (ctx.scaling * second).to(dtype)
        of_x = of_weight = of_bias = of_first = of_second = None
        if ctx.needs_input_grad[0]:
            of_x = (above @ weight.to(dtype)).addmm_(of_inner, first.to(dtype)).view(ctx.shape)
        if ctx.needs_input_grad[1]:
            of_weight = (above.t() @ rows).to(weight.dtype)
        if ctx.needs_input_grad[2]:
            of_bias = above.sum(0).to(weight.dtype)
        if ctx.needs_input_grad[3]:
            of_first = (of_inner.t() @ rows).to(first.dtype)
        if ctx.needs_input_grad[4]:
            of_second = (above.t() @ inner).to(second.dtype).mul_(ctx.scaling)
        return of_x, of_weight, of_bias, of_first, of_second, None
