"""Prompts as token ids: from text, chat messages or ids; and their grouping into batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rather.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Prompt = str | Sequence[int] | Sequence[dict[str, Any]]
"""Plain text, token ids, or chat messages (``{"role": ..., "content": ...}``)."""

_TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>")


def encode(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, *, where: str | None = None) -> list[int]:
    """Token ids of a prompt; messages go through the chat template, which then opens the assistant's turn.

    Text gets the special tokens the tokenizer adds by itself, messages only those of the template, ids none.

    Raises:
        UserError: the prompt has no token, or messages are given and the tokenizer has no chat template.
    """
    if isinstance(prompt, str):
        ids = list(tokenizer(prompt).input_ids)
    elif prompt and isinstance(prompt[0], dict):
        if tokenizer.chat_template is None:
            raise UserError("the tokenizer has no chat template, but the prompt is a list of messages", where=where)
        text = tokenizer.apply_chat_template(list(prompt), add_generation_prompt=True, tokenize=False)  # type: ignore[arg-type]
        ids = list(tokenizer(str(text), add_special_tokens=False).input_ids)
    else:
        ids = [int(token) for token in prompt]  # type: ignore[call-overload]
    if not ids:
        raise UserError("the prompt is empty: there is no token to continue", where=where)
    return ids


def end_ids(model: Any, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids that end a response: the tokenizer's and the model's end tokens, and the known ends of a chat turn.

    A turn end counts only where the tokenizer knows it as one special token.
    """
    ends: set[int] = set()
    own: Any = tokenizer.eos_token_id
    for value in (own, getattr(model.generation_config, "eos_token_id", None)):
        ends.update(value if isinstance(value, list) else [] if value is None else [value])
    added: dict[str, int] = tokenizer.get_added_vocab()  # type: ignore[operator]  # declared by the subclasses
    ends.update(added[token] for token in _TURN_ENDS if token in added)
    return sorted(ends)


def batches(lengths: Sequence[int], new_tokens: int, *, batch_size: int, token_budget: int | None) -> list[list[int]]:
    """Indices in batches of like length, longest first.

    Longest first, so that a batch that does not fit in memory fails at the start.

    Args:
        lengths: prompt tokens of each row.
        new_tokens: room each row needs beyond its prompt.
        batch_size: the most rows of a batch.
        token_budget: the most positions of a batch, padding and room for new tokens included; a single row may
            exceed it. ``None``: no bound.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    result: list[list[int]] = []
    for index in order:
        current = result[-1] if result else None
        if current is not None and len(current) < batch_size:
            widest = lengths[current[0]] + new_tokens
            if token_budget is None or (len(current) + 1) * widest <= token_budget:
                current.append(index)
                continue
        result.append([index])
    return result
