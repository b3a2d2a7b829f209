"""Batched sampling from a causal language model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from rather.errors import UserError
from rather.progress import progress_bar
from rather.sampling.choose import Choice, uniforms
from rather.sampling.decode import decode
from rather.sampling.prompts import Prompt, batches, encode, end_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Sample:
    """One response.

    Attributes:
        text: decoded without special tokens.
        ids: its tokens, with the end token if it was reached.
        logprob_sum: sum over ``ids`` of the model's log-probabilities in nats, at temperature 1 and without top-p
            whatever the sample was drawn with; float32 sums of what the model computed in its own dtype.
        finished: whether it ended by itself; otherwise it was cut at ``max_new_tokens``.
    """

    text: str
    ids: tuple[int, ...]
    logprob_sum: float
    finished: bool


@torch.no_grad()
def generate(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    *,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_p: float = 1.0,
    n: int = 1,
    seed: int = 0,
    batch_size: int = 64,
    token_budget: int | None = 32768,
    stop_ids: Sequence[int] | None = None,
    banned: Sequence[torch.Tensor | None] | None = None,
    progress: bool = False,
) -> list[list[Sample]]:
    """``n`` responses to every prompt.

    Rows are sorted by length and padded on the left; a prompt is encoded once for its samples in a batch. Sampling
    settings the model was saved with are ignored. A sample is a function of the weights, ``seed``, the prompt and its
    position in ``prompts``, and the sample's number: not of the batch it fell into, up to rounding of the model's
    arithmetic (which in bfloat16 can turn near ties). The global random state is neither read nor changed. The model
    is in eval mode meanwhile, and each module's mode is put back. Adapters act as they are set: sample from the
    reference inside ``model.disable_adapter()``.

    Args:
        model: a causal language model of transformers or PEFT, on its device.
        tokenizer: its tokenizer.
        prompts: text, token ids or messages, see ``Prompt``.
        max_new_tokens: the longest response, in tokens.
        temperature: divides the logits; 0 takes the most likely token.
        top_p: nucleus sampling; 1 keeps the whole vocabulary.
        n: responses for each prompt.
        seed: non-negative.
        batch_size: most rows at once.
        token_budget: most positions at once, counting padding and room for the response; bounds the key-value cache.
        stop_ids: ids that end a response, instead of the end tokens of tokenizer, model and chat format.
        banned: for each prompt ``[vocab]``, true where a token is never drawn, or ``None``.
        progress: show a progress bar on stderr.

    Returns:
        For each prompt, in order, its ``n`` samples.

    Raises:
        UserError: an option is out of range, a prompt is empty, or a prompt with its response exceeds the model's
            context.
    """
    _check(max_new_tokens, temperature, top_p, n, seed, batch_size)
    encoded = [encode(tokenizer, prompt, where=f"prompt {i}") for i, prompt in enumerate(prompts)]
    _check_context(model, encoded, max_new_tokens)
    rows = [(i, j) for i in range(len(encoded)) for j in range(n)]
    ends = end_ids(model, tokenizer) if stop_ids is None else sorted(set(stop_ids))
    plan = batches(
        [len(encoded[i]) for i, _ in rows], max_new_tokens, batch_size=batch_size, token_budget=token_budget
    )
    own: Any = tokenizer.pad_token_id
    pad = int(own) if own is not None else ends[0] if ends else 0
    found: dict[tuple[int, int], Sample] = {}
    with _sampling_mode(model), progress_bar("sampling", len(rows), show=progress) as advance:
        for batch in plan:
            keys = [rows[index] for index in batch]
            u = uniforms(seed, keys, max_new_tokens) if temperature > 0 else None
            never = _stacked([banned[i] for i, _ in keys]) if banned is not None else None
            choice = Choice(u, temperature, top_p, never)
            rows_of = [encoded[i] for i, _ in keys]
            new, logps = decode(model, rows_of, choice, ends=ends, max_new_tokens=max_new_tokens, pad=pad)
            for key, ids, logp in zip(keys, new.tolist(), logps.cpu(), strict=True):
                found[key] = _sample(tokenizer, ids, logp, ends)
            advance(len(batch))
    return [[found[i, j] for j in range(n)] for i in range(len(encoded))]


def _stacked(banned: Sequence[torch.Tensor | None]) -> torch.Tensor | None:
    """``[batch, vocab]``; ``None`` where nothing is banned."""
    some = next((one for one in banned if one is not None), None)
    if some is None:
        return None
    return torch.stack([torch.zeros_like(some) if one is None else one for one in banned])


def _sample(tokenizer: PreTrainedTokenizerBase, ids: list[int], logps: torch.Tensor, ends: list[int]) -> Sample:
    stop = next((i for i, token in enumerate(ids) if token in ends), None)
    kept = ids if stop is None else ids[: stop + 1]
    text = str(tokenizer.decode(kept if stop is None else kept[:-1], skip_special_tokens=True))
    return Sample(text, tuple(kept), float(logps[: len(kept)].sum()), finished=stop is not None)


@contextmanager
def _sampling_mode(model: nn.Module) -> Iterator[None]:
    """Eval mode, and a bare generation config in place of the model's saved one; both are put back."""
    from transformers import GenerationConfig

    modes = [(module, module.training) for module in model.modules()]
    # A PEFT wrapper hands its own config to the model inside.
    owners: list[Any] = [
        module
        for module in model.modules()
        if isinstance(getattr(module, "generation_config", None), GenerationConfig)
    ]
    configs = [(owner, owner.generation_config) for owner in owners]
    model.eval()
    try:
        for owner in owners:
            owner.generation_config = GenerationConfig()
        yield
    finally:
        for owner, config in configs:
            owner.generation_config = config
        for module, mode in modes:
            module.training = mode


def _check(max_new_tokens: int, temperature: float, top_p: float, n: int, seed: int, batch_size: int) -> None:
    for name, value in (("max_new_tokens", max_new_tokens), ("n", n), ("batch_size", batch_size)):
        if value < 1:
            raise UserError(f"must be at least 1, is {value}", where=name)
    if not 0 <= temperature < float("inf"):
        raise UserError(f"must be at least 0 and finite, is {temperature}", where="temperature")
    if not 0 < top_p <= 1:
        raise UserError(f"must be in (0, 1], is {top_p}", where="top_p")
    if seed < 0:
        raise UserError(f"must be at least 0, is {seed}", where="seed")


def _check_context(model: Any, prompts: list[list[int]], max_new_tokens: int) -> None:
    context = getattr(model.config, "max_position_embeddings", None)
    for i, prompt in enumerate(prompts):
        if context is not None and len(prompt) + max_new_tokens > context:
            raise UserError(
                f"{len(prompt)} tokens and {max_new_tokens} new ones exceed the model's context of {context}",
                where=f"prompt {i}",
                fix="shorten the prompt or max_new_tokens",
            )
