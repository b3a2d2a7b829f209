"""KL divergence between two models' next-token distributions, without ever holding more than a chunk of logits.

KL_t = sum_v ref_v (log ref_v - log p_v),   over the whole vocabulary, at each position; nats
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from rather.policies.head import LogitForm, chunk_rows

Rows = Callable[[Tensor, Tensor], Tensor]
"""(states [n, D], reference states [n, D']) -> [n]; each row by itself."""


def token_kl(
    states: Tensor,
    head: nn.Module,
    form: LogitForm,
    reference_states: Tensor,
    reference_head: Callable[[Tensor], Tensor],
    *,
    chunk: int | None = None,
) -> Tensor:
    """KL(reference || policy) at each position.

    Args:
        states: [N, D] last hidden states of the policy; carry the gradient, as the head's weights do.
        head: the policy's output layer.
        form: scale and soft-cap of the policy's logits.
        reference_states: [N, D'] of the reference.
        reference_head: from rows of these to logits [n, V], without gradient.
        chunk: rows at a time.

    Returns:
        [N] nats, float32 at least; 0 up to rounding where both agree, and then without gradient.
    """

    def rows(h: Tensor, r: Tensor) -> Tensor:
        logits = form(head(h))
        wide = torch.promote_types(logits.dtype, torch.float32)
        logps = logits.to(wide).log_softmax(-1)
        with torch.no_grad():
            of_reference = reference_head(r).to(wide).log_softmax(-1)
        return (of_reference.exp() * (of_reference - logps)).sum(-1)

    # About eight tensors of a chunk's size are alive at once: the logits of both models, and what backward needs.
    size = chunk or max(16, chunk_rows(int(getattr(head, "out_features", 1 << 16))) // 8)
    if not any(parameter.requires_grad for parameter in head.parameters()):
        return _FrozenHead.apply(states, reference_states, rows, size)
    parts = [
        checkpoint(rows, h, r, use_reentrant=False)
        for h, r in zip(states.split(size), reference_states.split(size), strict=True)
    ]
    return torch.cat(parts) if parts else states.new_zeros(0)


class _FrozenHead(torch.autograd.Function):
    """Makes the gradient with respect to the states in forward: a row's incoming gradient is one number, and nothing
    else is trained, so that backward needs no logits."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, reference_states: Tensor, rows: Rows, size: int) -> Tensor:
        needed = ctx.needs_input_grad[0]
        early = torch.empty_like(states) if needed else None
        found = []
        for start in range(0, len(states), size):
            part = slice(start, start + size)
            with torch.set_grad_enabled(needed):
                own = states[part].detach().requires_grad_(needed)
                values = rows(own, reference_states[part])
                if early is not None:
                    (early[part],) = torch.autograd.grad(values.sum(), own)
            found.append(values.detach())
        ctx.save_for_backward(early)
        return torch.cat(found) if found else states.new_zeros(0)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (early,) = ctx.saved_tensors
        to_states = None if early is None else (gradients[0][:, None] * early).to(early.dtype)
        return to_states, None, None, None
