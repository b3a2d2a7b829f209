"""Log-probabilities of given tokens from hidden states, without ever holding the logits of more than a chunk of rows.

    logits = cap * tanh(scale * (W h + b) / cap)          (no cap: scale * (W h + b))
    logp   = logits[target] - logsumexp(logits)

The logits of a whole batch are often the largest tensor of a step (vocabulary times positions). Here they exist for
one chunk at a time, in forward and in backward; products run in the compute type, statistics in float32 at least.
Each row is one position, so the result for a row does not depend on the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

_CHUNK_ELEMENTS = 1 << 24  # logits of a chunk: 64 MB in float32


@dataclass(frozen=True)
class LogitForm:
    """What a model does to the product of hidden state and head: scale first, then soft-cap."""

    scale: float = 1.0
    cap: float | None = None

    @staticmethod
    def of(config: Any) -> LogitForm:
        """From a transformers configuration (Gemma caps, Cohere multiplies, Granite divides)."""
        cap = getattr(config, "final_logit_softcapping", None)
        scale = getattr(config, "logit_scale", None)
        scale = 1.0 if scale is None else float(scale)
        divisor = getattr(config, "logits_scaling", None)
        return LogitForm(scale / float(divisor) if divisor else scale, float(cap) if cap else None)

    def __call__(self, logits: Tensor) -> Tensor:
        logits = logits * self.scale if self.scale != 1.0 else logits
        return logits if self.cap is None else self.cap * torch.tanh(logits / self.cap)

    def slope(self, formed: Tensor) -> Tensor | float:
        """Derivative with respect to the raw product, from the formed logits."""
        if self.cap is None:
            return self.scale
        return self.scale * (1 - (formed / self.cap).square())


def chunk_rows(vocabulary: int) -> int:
    """Rows of a chunk for a vocabulary of this size."""
    return max(16, _CHUNK_ELEMENTS // vocabulary)


def token_logps(
    hidden: Tensor,
    head: nn.Module,
    targets: Tensor,
    form: LogitForm,
    *,
    entropy: bool = False,
    chunk: int | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Log-probability of ``targets[i]`` under the distribution that ``hidden[i]`` gives.

    Args:
        hidden: [N, D] last hidden states.
        head: the output layer, D -> V. A plain ``nn.Linear`` takes the fused path; anything else (an adapter around
            it, a quantised layer) is called chunk by chunk and recomputed in backward.
        targets: [N] token ids.
        form: scale and soft-cap of the logits.
        entropy: also the entropy of each distribution, in nats, detached.
        chunk: rows at a time.

    Returns:
        [N] log-probabilities in nats, float32 (float64 for float64 input), and [N] entropies or ``None``.
    """
    if type(head) is nn.Linear and not _hooked(head):
        dtype = _product_dtype(hidden)
        rows = chunk or chunk_rows(head.weight.shape[0])
        logps, entropies = _ChunkedHead.apply(hidden, head.weight, head.bias, targets, form, dtype, rows, entropy)
        return logps, entropies if entropy else None
    return _by_module(hidden, head, targets, form, entropy, chunk)


def plain_token_logps(hidden: Tensor, head: nn.Module, targets: Tensor, form: LogitForm) -> Tensor:
    """The same in the obvious way, holding all logits; what the chunked form is tested against."""
    logits = form(_wide(head(hidden)))
    return logits.log_softmax(-1).gather(-1, targets[:, None]).squeeze(-1)


class _ChunkedHead(torch.autograd.Function):
    """Rebuilds a chunk's logits in backward; a frozen head needs no second pass, as the gradient with respect to the
    hidden state is made in forward (each row's incoming gradient is one number)."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        form: LogitForm,
        dtype: torch.dtype,
        rows: int,
        with_entropy: bool,
    ) -> tuple[Tensor, Tensor]:
        wide = torch.promote_types(dtype, torch.float32)
        size = hidden.shape[0]
        lse, logps = (torch.empty(size, dtype=wide, device=hidden.device) for _ in range(2))
        entropy = torch.empty(size if with_entropy else 0, dtype=wide, device=hidden.device)
        needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        early = torch.empty(hidden.shape, dtype=dtype, device=hidden.device)
        early = early if needs_hidden and not (needs_weight or needs_bias) else None
        w, b = weight.to(dtype), None if bias is None else bias.to(dtype)
        for start in range(0, size, rows):
            part = slice(start, start + rows)
            logits = form(nn.functional.linear(hidden[part].to(dtype), w, b).to(wide))
            lse[part] = logits.logsumexp(-1)
            logps[part] = logits.gather(-1, targets[part, None]).squeeze(-1) - lse[part]
            if with_entropy:
                probabilities = (logits - lse[part, None]).exp()
                entropy[part] = lse[part] - (probabilities * logits).sum(-1)
            if early is not None:
                early[part] = _logit_gradient(logits, lse[part], targets[part], form).to(dtype) @ w
        ctx.save_for_backward(hidden, weight, bias, targets, lse, early)
        ctx.form, ctx.dtype, ctx.rows = form, dtype, rows
        ctx.mark_non_differentiable(entropy)
        return logps, entropy

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        outer = gradients[0]
        hidden, weight, bias, targets, lse, early = ctx.saved_tensors
        unused = (None,) * 5
        if early is not None:
            return (outer[:, None] * early).to(hidden.dtype), None, None, *unused
        needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        form, dtype, rows = ctx.form, ctx.dtype, ctx.rows
        to_hidden = torch.empty_like(hidden) if needs_hidden else None
        to_weight = torch.zeros(weight.shape, dtype=lse.dtype, device=weight.device) if needs_weight else None
        to_bias = torch.zeros(bias.shape, dtype=lse.dtype, device=bias.device) if needs_bias else None
        w, b = weight.to(dtype), None if bias is None else bias.to(dtype)
        for start in range(0, hidden.shape[0], rows):
            part = slice(start, start + rows)
            h = hidden[part].to(dtype)
            logits = form(nn.functional.linear(h, w, b).to(lse.dtype))
            inner = _logit_gradient(logits, lse[part], targets[part], form).mul_(outer[part, None])
            if to_bias is not None:
                to_bias += inner.sum(0)
            inner = inner.to(dtype)
            if to_hidden is not None:
                to_hidden[part] = (inner @ w).to(hidden.dtype)
            if to_weight is not None:
                to_weight = to_weight.addmm_(inner.T, h) if dtype == lse.dtype else to_weight.add_(inner.T @ h)
        to_weight = None if to_weight is None else to_weight.to(weight.dtype)
        to_bias = None if to_bias is None or bias is None else to_bias.to(bias.dtype)
        return to_hidden, to_weight, to_bias, *unused


def _logit_gradient(logits: Tensor, lse: Tensor, targets: Tensor, form: LogitForm) -> Tensor:
    """Gradient of a row's log-probability with respect to the raw product: (onehot - softmax) * slope."""
    slope = form.slope(logits)
    gradient = (logits - lse[:, None]).exp_().neg_()
    gradient.scatter_add_(-1, targets[:, None], torch.ones_like(targets[:, None], dtype=gradient.dtype))
    return gradient if isinstance(slope, float) and slope == 1.0 else gradient.mul_(slope)


def _by_module(
    hidden: Tensor, head: nn.Module, targets: Tensor, form: LogitForm, entropy: bool, chunk: int | None
) -> tuple[Tensor, Tensor | None]:
    def part_logps(h: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        logps = form(_wide(head(h))).log_softmax(-1)
        spread = -(logps.detach().exp() * logps.detach()).sum(-1) if entropy else logps.new_empty(0)
        return logps.gather(-1, t[:, None]).squeeze(-1), spread

    rows = chunk or chunk_rows(int(getattr(head, "out_features", 1 << 16)))
    parts = [
        checkpoint(part_logps, h, t, use_reentrant=False)
        for h, t in zip(hidden.split(rows), targets.split(rows), strict=True)
    ]
    logps = torch.cat([p for p, _ in parts])
    return logps, torch.cat([e for _, e in parts]) if entropy else None


def _product_dtype(hidden: Tensor) -> torch.dtype:
    kind = hidden.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype


def _wide(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _hooked(module: nn.Module) -> bool:
    # A hook or a parametrisation would be missed by using the weight directly.
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
    return any(hooks) or hasattr(module, "parametrizations")
