"""One FlexAttention kernel for a whole row of comparisons with shared prompts, where an accelerator compiles it.

Blocks of the row in which no query sees a key are skipped, so the cost is that of what may be seen. On a processor the small
rectangles of ``block_mask`` are faster.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_SMALLEST = 16  # width of a head that the kernels take
_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-6}
_LOW_PRECISION = 0.05
_state: dict[str, Any] = {"kernel": None, "failed": False, "checked": False}


def usable(query: Tensor) -> bool:
    """Whether a row of these queries [1, H, T, d] should go through the kernel."""
    width = query.shape[-1]
    fits = width >= _SMALLEST and width & (width - 1) == 0
    return query.device.type == "cuda" and fits and not _state["failed"]


def agrees(ours: Callable[..., Tensor | None], known: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> bool:
    """Whether a first call gives the values and gradients of a known way; asked once in a process, with a warning if not.

    Args:
        ours, known: of query, key and value.
    """
    if _state["checked"]:
        return not _state["failed"]
    _state["checked"] = True
    found = []
    for way in (known, ours):
        with torch.enable_grad():
            leaves = [x.detach().clone().requires_grad_() for x in inputs]
            out = way(*leaves)
            if out is None:
                return False
            weights = torch.linspace(-1, 1, out.numel(), device=out.device, dtype=out.dtype).view_as(out)
            found.append([out.detach(), *torch.autograd.grad((out * weights).sum(), leaves)])
    allowed = _TOLERANCE.get(inputs[0].dtype, _LOW_PRECISION)
    off = max(float((a - b).norm() / b.norm().clamp_min(1e-12)) for b, a in zip(*found, strict=True))
    if not off <= allowed:
        _state["failed"] = True
        warnings.warn(f"FlexAttention is off by {off:.2g} here; attention goes piece by piece", stacklevel=2)
    return not _state["failed"]


def attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Any, scaling: float | None, softcap: float | None
) -> Tensor | None:
    """[1, H, T, d] of queries [1, H, T, d] and keys and values [1, G, T, d], G dividing H; ``None``, after one warning,
    where the kernel cannot be compiled."""

    def capped(score: Tensor, *_: Tensor) -> Tensor:
        return score if softcap is None else softcap * torch.tanh(score / softcap)

    try:
        return _kernel()(
            query,
            key,
            value,
            score_mod=None if softcap is None else capped,
            block_mask=mask,
            scale=scaling,
            enable_gqa=key.shape[1] < query.shape[1],
        )
    except Exception as error:  # whatever a compiler or a kernel raises
        _state["failed"] = True
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        warnings.warn(f"FlexAttention cannot be used here ({reason}); attention goes piece by piece", stacklevel=2)
        return None


def _kernel() -> Callable[..., Tensor]:
    from torch.nn.attention.flex_attention import flex_attention

    if _state["kernel"] is None:
        _state["kernel"] = torch.compile(flex_attention, dynamic=True)
    return _state["kernel"]
