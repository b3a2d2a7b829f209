"""Tiny random language models of the true classes, with a small real tokenizer; for tests only.

folder = tiny_model(tmp_path / "model", kind="llama")       # loads with transformers, by any command of the library
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

WORDS = """
the a of to and in is you it that was for on are with as his they at be this from have or by one had not but
what all were when we there can an your which their said if do will each about how up out them then she many
some so these would other into has more her two like him see time could no make than first been its who now
people my made over did down only way find use may water long little very after words called just where most
know please write reply short answer question help thank sorry sure hello good bad friend name city river
mountain blue red green seven eight nine plan story poem letter Human Assistant User system assistant user Why
What How Who When Yes No Maybe I'm don't can't it's
"""
BOS, END, PAD, TURN, TURN_END = "<|begin|>", "<|endoftext|>", "<|pad|>", "<|im_start|>", "<|im_end|>"
CHAT = (
    "{% if bos_token and use_bos is defined %}{{ bos_token }}{% endif %}"
    "{% if tools %}{{ '<|im_start|>system\n' + (tools | tojson) + '<|im_end|>\n' }}{% endif %}"
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""A ChatML template: a turn ends with ``<|im_end|>`` and a newline."""

SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}


@functools.cache
def _backend(vocab_size: int) -> str:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, BOS, END, TURN, TURN_END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([WORDS, WORDS.lower(), WORDS.replace("\n", " ").upper()], trainer)
    return str(tokenizer.to_str())


def tiny_tokenizer(*, chat: bool = True, bos: bool = False, vocab_size: int = 500) -> Any:
    """A byte-level BPE tokenizer.

    Args:
        chat: with a ChatML template; its end of turn is then the end token, as instruction-tuned models have it.
        bos: put ``<|begin|>`` before every text, as Llama does.
        vocab_size: at least 261.
    """
    from tokenizers import Tokenizer, processors
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer.from_str(_backend(vocab_size))
    if bos:
        backend.post_processor = processors.TemplateProcessing(
            single=f"{BOS} $A", special_tokens=[(BOS, backend.token_to_id(BOS))]
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=BOS, eos_token=TURN_END if chat else END, pad_token=PAD
    )
    tokenizer.model_max_length = SIZES["max_position_embeddings"]
    if chat:
        tokenizer.chat_template = CHAT
    return tokenizer


def tiny_config(kind: str, vocab_size: int, **changes: Any) -> Any:
    """The configuration of a tiny model of this ``model_type``; ``changes`` override."""
    import transformers

    values: dict[str, Any] = {**SIZES, "vocab_size": vocab_size}
    if kind == "gpt2":
        values = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512, "vocab_size": vocab_size}
    if kind in ("qwen3", "gemma2", "gemma3_text"):
        values["head_dim"] = 8
    if kind in ("gemma2", "gemma3_text", "mistral"):
        values["sliding_window"] = 16  # shorter than the tests' sequences, so that windows matter
    if kind == "gemma2":
        values |= {"query_pre_attn_scalar": 8, "final_logit_softcapping": 5.0, "attn_logit_softcapping": 3.0}
    values |= {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0} | changes
    return transformers.AutoConfig.for_model(kind, **values)


def tiny_lm(kind: str = "llama", vocab_size: int = 500, *, seed: int = 0, spread: float = 0.15, **changes: Any) -> Any:
    """A tiny random causal language model in float32 and eval mode.

    Args:
        kind: a ``model_type`` of transformers.
        spread: standard deviation of the weights; wide, so that log-probabilities differ visibly.
    """
    import torch
    from transformers import AutoModelForCausalLM

    config = tiny_config(kind, vocab_size, **changes)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=spread)
            elif name.endswith("bias"):
                torch.nn.init.normal_(parameter, std=0.05)
    return model.eval()


def tiny_model(
    folder: Path | str, kind: str = "llama", chat: bool = True, *, bos: bool = False, seed: int = 0, **changes: Any
) -> str:
    """Save a tiny random model with its tokenizer, and return the folder's path."""
    tokenizer = tiny_tokenizer(chat=chat, bos=bos)
    model = tiny_lm(
        kind, len(tokenizer), seed=seed, **{"eos_token_id": tokenizer.eos_token_id, "pad_token_id": 0, **changes}
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def tiny_encoder(folder: Path | str, *, seed: int = 0) -> str:
    """Save a tiny random BERT, with a pooling layer, and its tokenizer (``<|begin|>`` text ``<|endoftext|>``, no end
    token); returns the folder's path."""
    import torch
    from tokenizers import Tokenizer, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    backend = Tokenizer.from_str(_backend(500))
    ends = [(name, backend.token_to_id(name)) for name in (BOS, END)]
    backend.post_processor = processors.TemplateProcessing(single=f"{BOS} $A {END}", special_tokens=ends)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, cls_token=BOS, sep_token=END, pad_token=PAD)
    sizes = {name: value for name, value in SIZES.items() if name != "num_key_value_heads"}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = BertModel(BertConfig(**{**sizes, "vocab_size": len(tokenizer), "max_position_embeddings": 128}))
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.15)
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)
