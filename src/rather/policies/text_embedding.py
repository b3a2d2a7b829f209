"""Texts as points: the mean state of an encoder, of length one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from rather.policies.device import inference_device
from rather.policies.encoders import is_encoder, load_encoder
from rather.policies.models import load_causal_lm, load_tokenizer

_BATCH = 64


class TextEmbedder:
    """Mean of a model's last states over a text's tokens, scaled to length one.

    Args:
        model: an encoder (``minilm``) or a causal language model, by name or folder.
        max_length: what is beyond so many tokens is not read.
    """

    def __init__(self, model: str = "minilm", max_length: int = 256) -> None:
        self.max_length = max_length
        self.tokenizer: Any = load_tokenizer(model)
        loaded: Any = load_encoder(model) if is_encoder(model) else load_causal_lm(model).base_model
        self.device = inference_device()
        self.network = loaded.eval().to(self.device)
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """[n, d] float32 of ``texts``. An empty text has a point too, where the tokenizer puts marks around it; else 0."""
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        points = [
            self._points([texts[index] for index in order[start : start + _BATCH]])
            for start in range(0, len(order), _BATCH)
        ]
        return np.concatenate(points)[np.argsort(order)] if texts else np.empty((0, 0), np.float32)

    def _points(self, texts: list[str]) -> np.ndarray:
        given = self.tokenizer(
            texts, padding=True, truncation=True, max_length=self.max_length, padding_side="right", return_tensors="pt"
        ).to(self.device)
        states = self.network(input_ids=given["input_ids"], attention_mask=given["attention_mask"]).last_hidden_state
        seen = given["attention_mask"][..., None].to(torch.float32)
        mean = (states.float() * seen).sum(1) / seen.sum(1).clamp(min=1)
        return torch.nn.functional.normalize(mean, dim=-1).cpu().numpy()
