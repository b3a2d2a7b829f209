"""Language models ready to be asked: loaded, in eval mode, on the accelerator where there is one."""

from __future__ import annotations

from typing import Any

import torch

from rather.policies.device import inference_device
from rather.policies.language import LanguagePolicy
from rather.policies.settings import PolicySettings
from rather.sampling.prompts import encode


def open_language_model(model: str, **settings: object) -> LanguagePolicy:
    """A policy to sample from and to score with.

    Args:
        model: a folder, a hub name or an alias.
        settings: further ones of ``PolicySettings``.
    """
    policy = LanguagePolicy.load(PolicySettings.model_validate({"model": model, **settings}))
    policy.network.eval().to(inference_device())
    return policy


def next_logits(policy: LanguagePolicy, question: str, cue: str) -> torch.Tensor:
    """[V] float64 logits of the token that follows a question, within ``policy.sampling()``.

    Args:
        cue: what follows the question in a model without a chat template; others answer by theirs.
    """
    tokenizer: Any = policy.tokenizer
    chat = tokenizer.chat_template is not None
    ids = encode(tokenizer, [{"role": "user", "content": question}] if chat else question + cue)
    at = next(policy.network.parameters()).device
    return policy.model(input_ids=torch.tensor([ids], device=at)).logits[0, -1].double()
