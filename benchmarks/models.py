"""Models to measure: any that the library opens, or a random Llama of a given size (``random:1b``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rather.errors import UserError, nearest

RANDOM = "random:"

SIZES: dict[str, dict[str, int]] = {
    "tiny": {
        "hidden_size": 64,
        "intermediate_size": 176,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
    "135m": {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
    },
    "1b": {
        "hidden_size": 2048,
        "intermediate_size": 5632,
        "num_hidden_layers": 22,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
    },
    "2b": {
        "hidden_size": 2560,
        "intermediate_size": 6912,
        "num_hidden_layers": 28,
        "num_attention_heads": 20,
        "num_key_value_heads": 4,
    },
}


def folder_of(name: str, scratch: Path, *, tokenizer: str = "smollm2-135m") -> str:
    """The folder (or hub name) of a model; a random one is written into ``scratch``.

    Args:
        tokenizer: the model whose tokenizer, and so whose vocabulary, a random model gets.

    Raises:
        UserError: no such size, or an adapter, which has no reference of its own to load.
    """
    from rather.policies.models import resolve

    if name.startswith(RANDOM):
        size = name.removeprefix(RANDOM)
        if size not in SIZES:
            raise UserError(f"no random model of size {size!r}", where=f"--model {name}", fix=nearest(size, SIZES))
        return save_random(scratch / size, SIZES[size], tokenizer=tokenizer)
    at = resolve(name)
    if at.adapter is not None:
        raise UserError("is an adapter; the benchmarks start from whole models", where=f"--model {name}")
    return at.path_or_name


def save_random(
    folder: Path, sizes: dict[str, int], *, tokenizer: str, vocabulary: int | None = None, context: int = 4096
) -> str:
    """Write a random Llama in bfloat16, tied head, with a copy of that tokenizer; returns the folder.

    Args:
        vocabulary: rows of the embedding; by default the tokenizer's.
    """
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    from rather.policies.models import load_tokenizer

    own: Any = load_tokenizer(tokenizer)
    config = LlamaConfig(
        **sizes,  # type: ignore[arg-type]
        vocab_size=vocabulary or len(own),
        max_position_embeddings=context,
        tie_word_embeddings=True,
        bos_token_id=own.bos_token_id,
        eos_token_id=own.eos_token_id,
        pad_token_id=own.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    own.save_pretrained(folder)
    return str(folder)
