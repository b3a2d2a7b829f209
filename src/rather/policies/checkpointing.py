"""Gradient checkpointing of a language model: activations of layers are computed again in the backward pass."""

from __future__ import annotations

import math
from typing import Any

from rather.policies.activations import decoder_layers


def checkpoint_layers(lm: Any, share: float = 1.0) -> None:
    """Checkpoint the first ``share`` of the layers, in place; all of them where layers cannot be told apart.

    The last layers may keep their activations for nothing where all weights are trained: these are needed before the
    gradients of the others exist, and take the room that gradients take later.
    """
    enable = getattr(lm, "activation_checkpointing_enable", None) or lm.gradient_checkpointing_enable
    enable({"use_reentrant": False})
    layers = decoder_layers(lm)
    for layer in layers[math.ceil(share * len(layers)) :]:
        for module in layer.modules():
            if hasattr(module, "gradient_checkpointing"):
                module.gradient_checkpointing = False  # type: ignore[assignment]  # a flag of transformers' layers
