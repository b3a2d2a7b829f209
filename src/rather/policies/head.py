"""Log-probabilities of given tokens from hidden states, without ever holding the logits of more than a chunk of rows.

    logits = cap * tanh(scale * (W h + b) / cap)          (no cap: scale * (W h + b))
    logp   = logits[target] - logsumexp(logits)

The logits of a whole batch are often the largest tensor of a step (vocabulary times positions). Here they exist for
one chunk at a time, in forward and in backward; products run in the compute type, statistics in float32 at least.
Each row is one position, so the result for a row does not depend on the others. Without gradients nothing is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from rather.policies.precision import product_dtype

_CHUNK_BYTES = 1 << 26  # raw products of a chunk
_BLOCK_ELEMENTS = {"cpu": 1 << 20}  # of a chunk, looked at together: 4 MB in float32, near a core's cache
_BLOCK_ELEMENTS_ELSEWHERE = 1 << 23


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


def chunk_rows(vocabulary: int, dtype: torch.dtype = torch.float32) -> int:
    """Rows of a chunk for a vocabulary of this size."""
    return max(16, _CHUNK_BYTES // (vocabulary * dtype.itemsize))


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
        dtype = product_dtype(hidden)
        rows = chunk or chunk_rows(head.weight.shape[0], dtype)
        # Asked here, as gradients are always off inside; without them nothing is kept and nothing extra computed.
        differentiate = torch.is_grad_enabled()
        logps, entropies = _ChunkedHead.apply(
            hidden, head.weight, head.bias, targets, form, dtype, rows, entropy, differentiate
        )
        return logps, entropies if entropy else None
    return _by_module(hidden, head, targets, form, entropy, chunk)


def plain_token_logps(hidden: Tensor, head: nn.Module, targets: Tensor, form: LogitForm) -> Tensor:
    """The same in the obvious way, holding all logits; what the chunked form is tested against."""
    logits = form(_wide(head(hidden)))
    return logits.log_softmax(-1).gather(-1, targets[:, None]).squeeze(-1)


class _ChunkedHead(torch.autograd.Function):
    """What backward needs is the gradient of each row's log-probability with respect to its raw products, a matrix of
    the size of the logits. That of the last chunk takes the place of the chunk's products and is kept, as nothing
    comes between; those of the others are made again in backward. A frozen head keeps none: each row's incoming
    gradient is one number, so the gradient with respect to the hidden state is made in forward but for that factor.
    """

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
        differentiate: bool,
    ) -> tuple[Tensor, Tensor]:
        needs_hidden, needs_weight, needs_bias = (needed and differentiate for needed in ctx.needs_input_grad[:3])
        frozen = needs_hidden and not (needs_weight or needs_bias)
        w, b = weight.to(dtype), None if bias is None else bias.to(dtype)
        early = torch.empty(hidden.shape, dtype=dtype, device=hidden.device) if frozen else None
        parts, kept = [], None
        for start in range(0, hidden.shape[0], rows):
            part = slice(start, start + rows)
            raw = nn.functional.linear(hidden[part].to(dtype), w, b)
            last = start + rows >= hidden.shape[0]
            wanted = frozen or (last and (needs_weight or needs_bias))
            parts.append(_statistics(raw, targets[part], form, entropy=with_entropy, gradient=wanted))
            if early is not None:
                torch.mm(raw, w, out=early[part])
            elif wanted:
                kept = raw
        logps, entropy = (torch.cat(values) for values in zip(*parts, strict=True))
        if frozen:
            ctx.save_for_backward(early)
        elif needs_weight or needs_bias:
            ctx.save_for_backward(hidden, w, b, targets, kept)
        ctx.form, ctx.rows, ctx.frozen = form, rows, frozen
        ctx.dtypes = hidden.dtype, weight.dtype, None if bias is None else bias.dtype
        ctx.mark_non_differentiable(entropy)
        return logps, entropy

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        outer = gradients[0][:, None]
        of_hidden, of_weight, of_bias = ctx.dtypes
        unused = (None,) * 6
        if ctx.frozen:
            (early,) = ctx.saved_tensors
            return (outer * early).to(of_hidden), None, None, *unused
        hidden, w, b, targets, kept = ctx.saved_tensors
        needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        to_hidden = torch.empty_like(hidden) if needs_hidden else None
        to_weight: Tensor | None = None
        to_bias = torch.zeros(w.shape[0], dtype=outer.dtype, device=w.device) if needs_bias else None
        for start in reversed(range(0, hidden.shape[0], ctx.rows)):
            part = slice(start, start + ctx.rows)
            h = hidden[part]
            inner, kept = kept, None
            if inner is None:
                inner = nn.functional.linear(h.to(w.dtype), w, b)
                _statistics(inner, targets[part], ctx.form, entropy=False, gradient=True)
            # The factors of the rows go to the small side of each product.
            if to_hidden is not None:
                to_hidden[part] = (inner @ w) * outer[part]
            if needs_weight:
                to_weight = _added(to_weight, inner.T, (h * outer[part]).to(w.dtype), outer.dtype)
            if to_bias is not None:
                to_bias += outer[part, 0].to(inner.dtype) @ inner
        to_weight = None if to_weight is None else to_weight.to(of_weight)
        to_bias = None if to_bias is None else to_bias.to(of_bias)
        return to_hidden, to_weight, to_bias, *unused


def _statistics(
    raw: Tensor, targets: Tensor, form: LogitForm, *, entropy: bool, gradient: bool
) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the targets and entropies (or nothing) from a chunk of raw products.

    Args:
        raw: [n, V] in the compute type; with ``gradient`` it is overwritten by the gradient of each row's
            log-probability with respect to it: (onehot - softmax) * slope.
    """
    wide = torch.promote_types(raw.dtype, torch.float32)
    # Several passes over few rows: over a whole chunk each would be a trip to memory, and its copies as large.
    block = max(1, _BLOCK_ELEMENTS.get(raw.device.type, _BLOCK_ELEMENTS_ELSEWHERE) // raw.shape[1])
    logps, spread = [], []
    for part, wanted in zip(raw.split(block), targets[:, None].split(block), strict=True):
        logits = form(part.to(wide))
        slope = form.slope(logits) if gradient else 1.0
        every = logits.log_softmax(-1)
        logps.append(every.gather(-1, wanted).squeeze(-1))
        if not (gradient or entropy):
            continue
        chances = every.exp()
        if entropy:
            spread.append(-(chances * every).sum(-1))
        if gradient:
            inner = chances.neg_().scatter_add_(-1, wanted, torch.ones_like(wanted, dtype=wide))
            part.copy_(inner if isinstance(slope, float) and slope == 1.0 else inner.mul_(slope))
    return torch.cat(logps), torch.cat(spread) if entropy else raw.new_empty(0, dtype=wide)


def _added(total: Tensor | None, a: Tensor, b: Tensor, dtype: torch.dtype) -> Tensor:
    """``total + a @ b``, summed in ``dtype``; ``total`` is overwritten."""
    if total is None:
        return (a @ b).to(dtype)
    return total.addmm_(a, b) if a.dtype == dtype else total.add_(a @ b)


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


def _wide(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _hooked(module: nn.Module) -> bool:
    # A hook or a parametrisation would be missed by using the weight directly.
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
    return any(hooks) or hasattr(module, "parametrizations")
