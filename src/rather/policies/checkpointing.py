"""Gradient checkpointing of a language model: activations of layers are computed again in the backward pass."""

from __future__ import annotations

import math
from typing import Any

from rather.policies.activations import decoder_layers


def checkpoint_layers(lm: Any, share: float = 1.0) -> None:
    """Checkpoint the first ``share`` of the layers, in place; all of them where layers cannot be told apart.

    Those of the last layers are used first in the backward pass, before there are gradients of the others: of all
    layers they cost the least memory to keep.
    """
    enable = getattr(lm, "activation_checkpointing_enable", None) or lm.gradient_checkpointing_enable
    enable({"use_reentrant": False})
    layers = decoder_layers(lm)
    for layer in layers[math.ceil(share * len(layers)) :]:
        for module in layer.modules():
            if hasattr(module, "gradient_checkpointing"):
                module.gradient_checkpointing = False  # type: ignore[assignment]  # a flag of transformers' layers
