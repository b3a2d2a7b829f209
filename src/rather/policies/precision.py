"""The type a policy computes in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn


def compute_dtype(precision: Literal["auto", "fp32", "bf16"], device: torch.device) -> torch.dtype:
    """The autocast type: bfloat16 when asked for, or under ``auto`` where the device multiplies it natively."""
    if precision == "fp32" or (precision == "auto" and not has_native_bf16(device)):
        return torch.float32
    return torch.bfloat16


def has_native_bf16(device: torch.device) -> bool:
    """Whether matrix products in bfloat16 are done by the hardware rather than emulated."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        # torch has no public question for this before 2.13's get_capabilities.
        checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(getattr(torch.cpu, name, bool)() for name in checks)
    return device.type == "xpu"


def product_dtype(x: Tensor) -> torch.dtype:
    """The type in which torch's own products take ``x``: that of autocast where it is on."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


@contextmanager
def cast_once(model: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """Hold the weights of linear layers in ``dtype`` meanwhile.

    Autocast casts them in every forward pass, which for one new token at a time is most of the work. The products are
    the same; a weight that is shared with a layer of another kind (an embedding) is left as it is.
    """
    modules = list(model.modules())
    kept = {id(p) for module in modules if not isinstance(module, nn.Linear) for p in module.parameters(recurse=False)}
    linear = {id(p): p for m in modules if isinstance(m, nn.Linear) for p in m.parameters(recurse=False)}
    full = [(p, p.data) for key, p in linear.items() if key not in kept and p.is_floating_point()]
    try:
        for parameter, values in full:
            parameter.data = values.to(dtype)
        yield
    finally:
        for parameter, values in full:
            parameter.data = values
