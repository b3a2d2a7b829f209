"""GGUF to safetensors, for LLaMA-type language models with a byte-level BPE tokenizer.

The file is read and dequantised by the ``gguf`` package. Names, the rotary permutation and the tokenizer are undone
here rather than by ``transformers``, whose reader ignores the pre-tokenizer name (SmolLM splits digits first, so
that the two spaces of ``"a  2"`` are one token, not two).
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rather.errors import UserError

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer

# Names of llama.cpp's tensors inside one block, against those of transformers' LlamaForCausalLM.
_BLOCK = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
_TOP = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
# The splits llama.cpp performs before the byte-level one, by ``tokenizer.ggml.pre``.
_DIGITS_FIRST = {"gpt-2": False, "smollm": True}
_CONTROL, _USER_DEFINED = 3, 4  # gguf token types


def convert(source: Path, target: Path, dtype: torch.dtype) -> None:
    """Write the model in ``source`` as a folder that ``from_pretrained`` loads.

    Args:
        source: a ``.gguf`` file of architecture ``llama``.
        target: an existing empty folder; receives ``config.json``, ``generation_config.json``,
            ``model.safetensors`` and the tokenizer's files.
        dtype: the stored type of the weights; dequantised in float32 and rounded once.

    Raises:
        UserError: ``gguf`` is not installed, or the file's architecture or tokenizer is not one handled here.
    """
    from safetensors.torch import save_file

    try:
        from gguf import GGUFReader
    except ImportError as error:
        raise UserError("reading GGUF weights needs the package 'gguf'", fix="pip install gguf") from error

    reader = GGUFReader(str(source))
    meta = {name: field.contents() for name, field in reader.fields.items()}
    if meta.get("general.architecture") != "llama":
        found = meta.get("general.architecture")
        raise UserError(f"GGUF architecture {found!r} is not handled, only 'llama'", where=str(source))
    tokenizer = build_tokenizer(meta, where=str(source))
    weights = read_weights(reader, meta, dtype)
    config = build_config(meta, tied="lm_head.weight" not in weights, dtype=dtype)
    _write_json(target / "config.json", config)
    _write_json(
        target / "generation_config.json",
        {key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id") if config[key] is not None},
    )
    tokenizer.save(str(target / "tokenizer.json"))
    _write_json(target / "tokenizer_config.json", tokenizer_config(meta))
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})


def build_config(meta: dict[str, Any], *, tied: bool, dtype: torch.dtype) -> dict[str, Any]:
    """``config.json`` of a LlamaForCausalLM, in the spelling that all supported transformers versions read."""

    def get(key: str, default: Any = None) -> Any:
        return meta.get(f"llama.{key}", default)

    heads = get("attention.head_count")
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": get("embedding_length"),
        "intermediate_size": get("feed_forward_length"),
        "num_hidden_layers": get("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": get("attention.head_count_kv", heads),
        "head_dim": get("rope.dimension_count", get("embedding_length") // heads),
        "max_position_embeddings": get("context_length"),
        "vocab_size": len(meta["tokenizer.ggml.tokens"]),
        "rope_theta": get("rope.freq_base", 10000.0),
        # Stored as float32; six digits give back the number its author wrote.
        "rms_norm_eps": float(f"{get('attention.layer_norm_rms_epsilon'):.6g}"),
        "tie_word_embeddings": tied,
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": meta.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": meta.get("tokenizer.ggml.eos_token_id"),
        "pad_token_id": meta.get("tokenizer.ggml.padding_token_id"),
        "torch_dtype": str(dtype).removeprefix("torch."),
        "use_cache": True,
    }


def read_weights(reader: Any, meta: dict[str, Any], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """All tensors by their transformers name, dequantised, in ``dtype``."""
    import numpy as np
    import torch
    from gguf.quants import dequantize

    heads = meta["llama.attention.head_count"]
    rows_per = {"attn_q": heads, "attn_k": meta.get("llama.attention.head_count_kv", heads)}
    weights: dict[str, torch.Tensor] = {}
    for tensor in reader.tensors:
        value = torch.from_numpy(np.array(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32))
        block = re.fullmatch(r"blk\.(\d+)\.(\w+)\.weight", tensor.name)
        if block and block[2] in _BLOCK:
            name = f"model.layers.{block[1]}.{_BLOCK[block[2]]}.weight"
            if block[2] in rows_per:
                value = undo_rotary_permutation(value, rows_per[block[2]])
        elif tensor.name in _TOP:
            name = _TOP[tensor.name]
        else:
            raise UserError(f"GGUF tensor {tensor.name!r} has no counterpart in LlamaForCausalLM")
        weights[name] = value.to(dtype).contiguous()
    return weights


def undo_rotary_permutation(weight: torch.Tensor, n_heads: int) -> torch.Tensor:
    """From llama.cpp's row order to transformers'.

    llama.cpp rotates neighbouring rows ``(0, 1), (2, 3), ...`` of a head, transformers rotates row ``i`` with
    ``i + head_dim / 2``. The GGUF writer interleaved the rows; this separates them again.

    Args:
        weight: ``[n_heads * head_dim, hidden]``.
        n_heads: heads of this projection (key heads for the key projection).
    """
    rows, columns = weight.shape
    halves = weight.reshape(n_heads, rows // n_heads // 2, 2, columns).swapaxes(1, 2)
    return halves.reshape(rows, columns)


def build_tokenizer(meta: dict[str, Any], *, where: str) -> Tokenizer:
    """The byte-level BPE tokenizer that the metadata describes, with its special tokens."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    kind, pre = meta.get("tokenizer.ggml.model"), meta.get("tokenizer.ggml.pre")
    if kind != "gpt2" or pre not in _DIGITS_FIRST:
        raise UserError(f"GGUF tokenizer {kind!r} with pre-tokenizer {pre!r} is not handled", where=where)
    tokens, types = meta["tokenizer.ggml.tokens"], meta["tokenizer.ggml.token_type"]
    merges = [tuple(merge.split(" ", 1)) for merge in meta["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    digits = [pre_tokenizers.Digits(individual_digits=True)] if _DIGITS_FIRST[pre] else []
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*digits, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    for token, token_type in zip(tokens, types, strict=True):
        if token_type in (_CONTROL, _USER_DEFINED):
            added = AddedToken(token, special=token_type == _CONTROL, normalized=False)
            (tokenizer.add_special_tokens if added.special else tokenizer.add_tokens)([added])
    return tokenizer


def tokenizer_config(meta: dict[str, Any]) -> dict[str, Any]:
    """``tokenizer_config.json``: named special tokens, context length and chat template."""
    tokens = meta["tokenizer.ggml.tokens"]
    config: dict[str, Any] = {
        # The generic class uses tokenizer.json as it stands; a model's own class would rebuild the pre-tokenizer.
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": meta["llama.context_length"],
        "clean_up_tokenization_spaces": False,
    }
    for name, key in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")):
        index = meta.get(f"tokenizer.ggml.{key}_token_id")
        if index is not None:
            config[f"{name}_token"] = tokens[index]
    if "tokenizer.chat_template" in meta:
        config["chat_template"] = meta["tokenizer.chat_template"]
    return config


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
