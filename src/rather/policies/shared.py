"""Prompt sharing: each prompt is computed once for all its responses, in one row without padding.

The row holds prompt, response, response, ... of every comparison; positions go on from the prompt in each response.
What may see what is decided per comparison by *logical* position: a token sees the prompt and its own response, as far
as the layer's own mask function (causal, sliding, chunked) allows at those positions. Two functions do this inside
transformers, registered under one name: a mask builder that learns the mask function of each kind of layer and returns
a ``BlockMask``, and an attention function that receives it. Without a shared row both act as ``sdpa``.

Exact where a model takes positions from ``position_ids`` and attention from the registered function; whether a loaded
model does is found out in ``rather.policies.selfcheck``.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from rather.policies import flex
from rather.policies.block_mask import BlockMask, Piece, Sizes

NAME = "rather_shared_prompt"
"""The implementation's name in transformers' registries."""

_current: ContextVar[Sizes | None] = ContextVar("shared_sizes", default=None)


class NotShareable(RuntimeError):
    """The model asks for something that a shared row cannot give."""


def last_hidden_states(lm: Any, input_ids: Tensor, *, position_ids: Tensor, sizes: Sizes) -> Tensor:
    """[1, T, D] last hidden states of a shared row (see ``rather.policies.forms.shared_inputs``).

    Raises:
        NotShareable: the model does not use the registered attention.
    """
    if lm.config._attn_implementation != NAME:
        raise NotShareable("the model's attention cannot be exchanged")
    token = _current.set(sizes)
    try:
        # A mask of ones says "no padding"; with none at all transformers would guess sequences from the positions.
        mask = torch.ones_like(input_ids)
        return body_of(lm)(input_ids=input_ids, attention_mask=mask, position_ids=position_ids, use_cache=False)[0]
    finally:
        _current.reset(token)


def body_of(lm: Any) -> Any:
    """The model below the output layer."""
    decoder = lm.get_decoder()
    return lm.model if decoder is lm else decoder


def install(lm: Any) -> str:
    """Make ``lm`` use the shared attention, and return the name of the implementation it used before.

    A model that reads no registry stays as it is.
    """
    from transformers import AttentionInterface, AttentionMaskInterface

    # A compiler would make a new graph for the sizes of every row; attention is left out of what it sees.
    AttentionInterface.register(NAME, torch.compiler.disable(attention))
    AttentionMaskInterface.register(NAME, build_mask)
    before = lm.config._attn_implementation
    # Asked first, as transformers would log a warning of its own.
    if getattr(lm, "_can_set_attn_implementation", lambda: True)():
        lm.set_attn_implementation(NAME)
    return before


def build_mask(*args: Any, mask_function: Callable[..., Tensor] | None = None, **kwargs: Any) -> Any:
    """The mask builder: a ``BlockMask`` for a shared row, else the boolean mask of ``sdpa``."""
    from transformers.masking_utils import causal_mask_function, sdpa_mask

    function = mask_function or causal_mask_function
    sizes = _current.get()
    if sizes is None:
        return sdpa_mask(*args, mask_function=function, **kwargs)
    if kwargs.get("use_vmap"):
        raise NotShareable("the model brings a mask of its own")
    device = kwargs.get("device", "cpu")
    return BlockMask(sizes, function, torch.device(device))


def attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Any,
    dropout: float = 0.0,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """The attention function: [1, H, T, d] to [1, T, H, d].

    Args:
        softcap: bound of the attention logits (Gemma 2).
        s_aux: [H] logits of attention sinks (gpt-oss).
    """
    if not isinstance(attention_mask, BlockMask):
        return _ordinary(module, query, key, value, attention_mask, dropout, scaling, softcap, s_aux, **kwargs)
    if dropout or kwargs.get("position_bias") is not None or kwargs.get("is_causal") is False:
        raise NotShareable("attention with dropout, a position bias or without causality")

    def pieces(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return _by_pieces(q, k, v, attention_mask, scaling, softcap, s_aux)

    def row(q: Tensor, k: Tensor, v: Tensor) -> Tensor | None:
        whole = flex.attend(q, k, v, attention_mask.row, scaling, softcap)
        return None if whole is None else whole.transpose(1, 2).contiguous()

    if s_aux is None and flex.usable(query) and flex.agrees(row, pieces, (query, key, value)):
        whole = row(query, key, value)
        if whole is not None:
            return whole, None
    return pieces(query, key, value), None


def _by_pieces(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: BlockMask,
    scaling: float | None,
    softcap: float | None,
    s_aux: Tensor | None,
) -> Tensor:
    """[1, T, H, d], rectangle by rectangle."""
    by_hand = softcap is not None or s_aux is not None
    kind = query.device.type
    native = kind == "cpu" and not by_hand
    if not native:  # elsewhere kernels that take both a mask and fewer key heads are rare
        key, value = _repeat(key, query), _repeat(value, query)

    def answer(q: Tensor, k: Tensor, v: Tensor, piece: Piece) -> Tensor:
        mask = piece.additive(q.dtype)
        if by_hand:
            return _by_hand(q, k, v, _causal(q) if mask is None else mask, scaling, softcap, s_aux)
        return scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=mask,
            is_causal=mask is None,
            scale=scaling,
            enable_gqa=native and k.shape[1] < q.shape[1],
        )

    if native and torch.is_autocast_enabled(kind):
        # The backward pass of a processor's bfloat16 kernel is slower than that of float32, which is exact as well.
        with torch.autocast(kind, enabled=False):
            done = _answers(answer, query.float(), key.float(), value.float(), attention_mask)
    else:
        done = _answers(answer, query, key, value, attention_mask)
    return torch.cat([part.transpose(1, 2) for part in done], 1)


def _answers(
    answer: Callable[[Tensor, Tensor, Tensor, Piece], Tensor],
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: BlockMask,
) -> list[Tensor]:
    """[1, H, n, d] of each piece, in the order of the row."""
    cuts = [piece.queries for pieces in mask.pieces for piece in pieces]
    # One split of each: a slice's gradient would be as long as the row.
    parts = zip(query.split(cuts, 2), key.split(cuts, 2), value.split(cuts, 2), strict=True)
    done: list[Tensor] = []
    for (prompt, *_), pieces in zip(mask.sizes, mask.pieces, strict=True):
        shared: list[Tensor] = []
        for piece in pieces:
            q, k, v = next(parts)
            if not piece.branch:
                rest = piece.queries - prompt
                shared = [states.split([prompt, rest], 2)[0] for states in (k, v)] if len(pieces) > 1 else []
            else:
                k, v = (torch.cat([before, own], 2) for before, own in zip(shared, (k, v), strict=True))
            done.append(answer(q, k, v, piece))
    return done


def _causal(query: Tensor) -> Tensor:
    size = query.shape[2]
    return torch.full((size, size), -torch.inf, dtype=query.dtype, device=query.device).triu(1)


def _ordinary(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    dropout: float,
    scaling: float | None,
    softcap: float | None,
    sinks: Tensor | None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if softcap is None and sinks is None:
        return sdpa_attention_forward(module, query, key, value, mask, dropout=dropout, scaling=scaling, **kwargs)
    key, value = _repeat(key, query), _repeat(value, query)
    rows, columns = query.shape[2], key.shape[2]
    if mask is None:
        causal = torch.ones(rows, columns, dtype=torch.bool, device=query.device)
        mask = causal.tril(columns - rows) if rows > 1 else causal
    added = mask
    if mask.dtype == torch.bool:
        # Not -inf: a padded position may see nothing at all, and its softmax would be NaN.
        lowest = torch.finfo(query.dtype).min
        added = torch.zeros(mask.shape, dtype=query.dtype, device=query.device).masked_fill_(~mask, lowest)
    out = _by_hand(query, key, value, added, scaling, softcap, sinks)
    return out.transpose(1, 2).contiguous(), None


def _by_hand(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor,
    scaling: float | None,
    softcap: float | None,
    sinks: Tensor | None,
) -> Tensor:
    """[B, H, n, d] attention with soft-capped logits or sinks, softmax in float32."""
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    logits = (query @ key.transpose(-1, -2)) * scale
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    logits = logits.float() + mask.float()
    if sinks is not None:  # a sink takes its share of the attention and gives nothing
        extra = sinks.float().reshape(1, -1, 1, 1).expand(*logits.shape[:-1], 1)
        weights = torch.cat([logits, extra], -1).softmax(-1)[..., :-1]
    else:
        weights = logits.softmax(-1)
    return weights.to(value.dtype) @ value


def _repeat(states: Tensor, query: Tensor) -> Tensor:
    """Key or value heads repeated to the number of query heads."""
    times = query.shape[1] // states.shape[1]
    return states if times == 1 else states.repeat_interleave(times, 1)
