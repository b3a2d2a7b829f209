"""Language models ready to be asked: loaded, in eval mode, on the accelerator where there is one."""

from __future__ import annotations

import torch

from rather.policies.language import LanguagePolicy
from rather.policies.settings import PolicySettings


def open_language_model(model: str, **settings: object) -> LanguagePolicy:
    """A policy to sample from and to score with.

    Args:
        model: a folder, a hub name or an alias.
        settings: further ones of ``PolicySettings``.
    """
    policy = LanguagePolicy.load(PolicySettings.model_validate({"model": model, **settings}))
    policy.network.eval().to(device())
    return policy


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
