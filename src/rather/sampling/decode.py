"""The decoding loop: a prompt is encoded once for all its samples, what all prompts begin with (a system prompt) once for
all of them, and a sample that has ended costs nothing more.

Models whose cache is one of keys and values go this way; others, and those that do not take positions, are continued
by the model's own ``generate``. Both choose tokens alike.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rather.sampling.choose import Choice, ChoiceProcessor

_SHARED_TOKENS = 8  # what prompts have in common is computed apart when it is at least so long
_ENDED_SHARE = 8  # rows are dropped once one in so many has ended: to drop copies the cache


def decode(
    model: Any, prompts: Sequence[Sequence[int]], choice: Choice, *, ends: Sequence[int], max_new_tokens: int, pad: int
) -> tuple[Tensor, Tensor]:
    """New ids [rows, steps], ``pad`` behind a row's end, and their log-probabilities [rows, steps] in nats.

    Args:
        prompts: ids of each row; rows with equal ids share their encoding.
        choice: of the next token, by row.
        ends: ids that end a row.
    """
    step = _loop if keeps_keys_and_values(model) else _by_generate
    return step(model, [tuple(prompt) for prompt in prompts], choice, list(ends), max_new_tokens, pad)


def keeps_keys_and_values(model: Any) -> bool:
    """Whether the cache is made of plain or sliding keys and values, and forward takes it with masks and positions."""
    from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

    if any(config.is_prompt_learning for config in getattr(model, "peft_config", {}).values()):
        return False
    if _cache_argument(model) is None or not {"attention_mask", "position_ids", "logits_to_keep"} <= _arguments(model):
        return False
    layers = DynamicCache(config=model.config).layers
    return all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)


def _arguments(model: Any) -> set[str]:
    inner = model.get_base_model() if hasattr(model, "peft_config") else model
    return set(inspect.signature(inner.forward).parameters)


def _cache_argument(model: Any) -> str | None:
    """What forward calls its cache: transformers renames it."""
    return next((name for name in ("cache", "past_key_values") if name in _arguments(model)), None)


def _loop(
    model: Any, prompts: list[tuple[int, ...]], choice: Choice, ends: list[int], max_new_tokens: int, pad: int
) -> tuple[Tensor, Tensor]:
    from transformers.cache_utils import DynamicCache, DynamicLayer

    device = next(model.parameters()).device
    distinct = list(dict.fromkeys(prompts))
    at = {prompt: index for index, prompt in enumerate(distinct)}
    source = torch.tensor([at[prompt] for prompt in prompts], device=device)
    cache = DynamicCache(config=model.config)
    state = {str(_cache_argument(model)): cache}

    def forward(ids: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
        output = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            use_cache=True,
            logits_to_keep=1,
            **state,
        )
        return output.logits[:, -1]

    common = common_start(distinct) if all(type(layer) is DynamicLayer for layer in cache.layers) else 0
    if common:
        start = torch.tensor([distinct[0][:common]], device=device)
        forward(start, torch.ones_like(start), torch.arange(common, device=device).unsqueeze(0))
        cache.batch_repeat_interleave(len(distinct))
    ids, own = padded_left([prompt[common:] for prompt in distinct], pad, device)
    mask = torch.cat([own.new_ones(len(distinct), common), own], dim=-1)
    positions = (mask.cumsum(dim=-1) - 1).clamp(min=0)[:, common:]
    logits = forward(ids, mask, positions)[source]
    cache.batch_select_indices(source)
    mask, position = mask[source], positions[source, -1:]
    rows, ended = torch.arange(len(prompts), device=device), torch.zeros(len(prompts), dtype=torch.bool, device=device)
    stops = torch.tensor(ends, dtype=torch.long, device=device)
    found = torch.full((len(prompts), max_new_tokens), pad, dtype=torch.long, device=device)
    logps = torch.zeros(len(prompts), max_new_tokens, device=device)
    for step in range(max_new_tokens):
        tokens, of_tokens = choice(logits, rows, step)
        alive = ~ended
        found[rows[alive], step], logps[rows[alive], step] = tokens[alive], of_tokens[alive]
        ended = ended | torch.isin(tokens, stops)
        left = int((~ended).sum())
        if left == 0 or step + 1 == max_new_tokens:
            return found[:, : step + 1], logps[:, : step + 1]
        if (len(rows) - left) * _ENDED_SHARE >= len(rows):
            keep = (~ended).nonzero().squeeze(-1)
            cache.batch_select_indices(keep)
            rows, mask, position, tokens, ended = (x[keep] for x in (rows, mask, position, tokens, ended))
        mask, position = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=-1), position + 1
        logits = forward(tokens.unsqueeze(-1), mask, position)
    raise ValueError("max_new_tokens must be positive")


def _by_generate(
    model: Any, prompts: list[tuple[int, ...]], choice: Choice, ends: list[int], max_new_tokens: int, pad: int
) -> tuple[Tensor, Tensor]:
    from transformers import GenerationConfig, LogitsProcessorList

    ids, mask = padded_left(prompts, pad, next(model.parameters()).device)
    config = GenerationConfig(
        max_new_tokens=max_new_tokens, do_sample=False, eos_token_id=ends or None, pad_token_id=pad, use_cache=True
    )
    processor = ChoiceProcessor(choice)
    output = model.generate(
        input_ids=ids, attention_mask=mask, generation_config=config, logits_processor=LogitsProcessorList([processor])
    )
    return output[:, ids.shape[1] :], torch.stack(processor.logps, dim=1)


def common_start(prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens all prompts begin with, each keeping one of its own; 0 where that is too little to matter."""
    if len(prompts) < 2:
        return 0
    most = min(map(len, prompts)) - 1
    first = prompts[0]
    length = next((i for i in range(most) if any(prompt[i] != first[i] for prompt in prompts)), most)
    return length if length >= _SHARED_TOKENS else 0


def padded_left(prompts: Sequence[Sequence[int]], pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids and mask, [rows, longest]."""
    width = max(map(len, prompts))
    ids = [[pad] * (width - len(prompt)) + list(prompt) for prompt in prompts]
    mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)
