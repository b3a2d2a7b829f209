"""The type a policy computes in."""

from __future__ import annotations

from typing import Literal

import torch


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
