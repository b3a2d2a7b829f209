"""A short hash of everything that decides a model's score of a comparison."""

from __future__ import annotations

import hashlib
import json

import torch
from torch import Tensor, nn

from rather.policies.scorer import LanguageScorer
from rather.policies.tokenization import TextEncoder

_SAMPLES = 1024  # values of each tensor that are hashed


def fingerprint(scorer: LanguageScorer, encoder: TextEncoder) -> str:
    """Hash of weights (a strided sample of each tensor, and its shape), tokenizer, template, lengths and types.

    Fresh adapters, whose second factor is zero, leave it as it is: the model computes the same.
    """
    digest = hashlib.blake2b(digest_size=16)
    _add(digest, scorer.model)
    tokenizer = encoder.tokenizer
    backend = getattr(tokenizer, "backend_tokenizer", None)
    said = {
        "config": {k: v for k, v in scorer.causal_lm.config.to_diff_dict().items() if k != "transformers_version"},
        "tokenizer": backend.to_str() if backend is not None else sorted(tokenizer.get_vocab().items()),
        "template": tokenizer.chat_template if encoder.mode == "chat" else None,
        "max_length": encoder.max_length,
        "truncation": encoder.truncation,
        "compute": str(scorer.dtype),
    }
    digest.update(json.dumps(said, sort_keys=True, default=str).encode())
    return digest.hexdigest()


def network_fingerprint(network: nn.Module, *said: object) -> str:
    """Hash of a network's weights, as above, and of whatever else is said of it."""
    digest = hashlib.blake2b(digest_size=16)
    _add(digest, network)
    digest.update(json.dumps(said, sort_keys=True, default=str).encode())
    return digest.hexdigest()


def _add(digest: hashlib.blake2b, network: nn.Module) -> None:
    for name, tensor in sorted(_weights(network).items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(_sample(tensor))


def _weights(network: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by the name they have without adapters; adapters that change nothing are left out."""
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    silent = all(not tensor.any() for name, tensor in tensors.items() if "lora_B" in name)
    prefix = "base_model.model." if hasattr(network, "base_model") and hasattr(network, "peft_config") else ""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if "lora_" in name and silent:
            continue
        found[name.removeprefix(prefix).replace(".base_layer.", ".")] = tensor.detach()
    return found


def _sample(tensor: Tensor) -> bytes:
    flat = tensor.reshape(-1)
    stride = max(1, flat.numel() // _SAMPLES)
    return flat[::stride].contiguous().cpu().view(torch.uint8).numpy().tobytes()
