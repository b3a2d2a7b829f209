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
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

NAME = "rather_shared_prompt"
"""The implementation's name in transformers' registries."""

Sizes = tuple[tuple[int, ...], ...]
"""Lengths of prompt and responses of each comparison, in row order."""

_current: ContextVar[Sizes | None] = ContextVar("shared_sizes", default=None)


class NotShareable(RuntimeError):
    """The model asks for something that a shared row cannot give."""


@dataclass
class BlockMask:
    """What may see what, per comparison. Passes through a model's layers untouched, as an attention mask.

    Attributes:
        sizes: comparisons of the row.
        blocks: [n, n] boolean for each comparison of n tokens; row sees column where true.
    """

    sizes: Sizes
    blocks: list[Tensor]
    _additive: dict[torch.dtype, list[Tensor]] = field(default_factory=dict)

    def additive(self, dtype: torch.dtype) -> list[Tensor]:
        """The blocks as 0 and -inf; made once for all layers."""
        if dtype not in self._additive:
            self._additive[dtype] = [
                torch.zeros(block.shape, dtype=dtype, device=block.device).masked_fill_(~block, -torch.inf)
                for block in self.blocks
            ]
        return self._additive[dtype]


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

    AttentionInterface.register(NAME, attention)
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
    return BlockMask(sizes, [_block(function, lengths, torch.device(device)) for lengths in sizes])


def _block(function: Callable[..., Any], lengths: tuple[int, ...], device: torch.device) -> Tensor:
    prompt, *responses = lengths
    spans = [torch.arange(prompt), *(torch.arange(prompt, prompt + size) for size in responses)]
    logical = torch.cat(spans).to(device)
    branch = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths)).to(device)
    zero = torch.zeros(1, 1, 1, 1, dtype=torch.long, device=device)
    q, kv = logical[None, None, :, None], logical[None, None, None, :]
    allowed = torch.as_tensor(function(zero, zero, q, kv), device=device)
    size = len(logical)
    allowed = allowed.expand(1, 1, size, size)[0, 0]
    return allowed & ((branch == 0)[None, :] | (branch[:, None] == branch[None, :]))


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
    plain = softcap is None and s_aux is None
    if not isinstance(attention_mask, BlockMask):
        return _ordinary(module, query, key, value, attention_mask, dropout, scaling, softcap, s_aux, **kwargs)
    if dropout or kwargs.get("position_bias") is not None or kwargs.get("is_causal") is False:
        raise NotShareable("attention with dropout, a position bias or without causality")
    key, value = _repeat(key, query), _repeat(value, query)
    cuts = [sum(lengths) for lengths in attention_mask.sizes]
    parts = zip(query.split(cuts, 2), key.split(cuts, 2), value.split(cuts, 2), strict=True)
    masks = attention_mask.additive(query.dtype)
    if plain:
        done = [
            scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scaling)
            for (q, k, v), mask in zip(parts, masks, strict=True)
        ]
    else:
        done = [_by_hand(q, k, v, mask, scaling, softcap, s_aux) for (q, k, v), mask in zip(parts, masks, strict=True)]
    return torch.cat(done, 2).transpose(1, 2).contiguous(), None


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
