"""Encoders: transformers that read a text in both directions and give a state for each token, as BERT does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rather.errors import UserError
from rather.policies.models import ResolvedModel, load_pretrained, resolve

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel


def is_encoder(name: str | ResolvedModel, *, trust_remote_code: bool = False) -> bool:
    """Whether a model is an encoder, and not a causal language model.

    Raises:
        UserError: it is both (an encoder with a decoder), or its config cannot be read.
    """
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    at = name if isinstance(name, ResolvedModel) else resolve(name)
    where = at.path_or_name
    try:
        config = AutoConfig.from_pretrained(where, revision=at.hub_revision, trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        raise UserError(f"the model's config cannot be read: {str(error).splitlines()[0]}", where=where) from error
    kind = config.model_type
    if getattr(config, "is_encoder_decoder", False):
        raise UserError(f"{kind} models encode and decode", where=where, fix="give a causal model or an encoder")
    own = getattr(config, "auto_map", None) or {}
    causal = kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES or "AutoModelForCausalLM" in own
    # BERT's kind is among the causal ones too: it can be told to be one.
    return not causal or kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES


def load_encoder(
    name: str | ResolvedModel,
    dtype: torch.dtype | str = "float32",
    *,
    trust_remote_code: bool = False,
    adapter_trainable: bool = False,
) -> PreTrainedModel | PeftModel:
    """An encoder from safetensors, in eval mode, on the CPU; see ``rather.policies.models.load_causal_lm``.

    The layer that some put on their first token's last state (``pooler``) is taken off.
    """
    from transformers import AutoModel
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # no report on a pooler that is taken off anyway; whatever else is absent is an error
    try:
        model: Any = load_pretrained(
            AutoModel,
            name,
            dtype,
            trust_remote_code=trust_remote_code,
            adapter_trainable=adapter_trainable,
            unused="pooler.",
        )
    finally:
        logging.set_verbosity(verbosity)
    base = model.get_base_model() if hasattr(model, "peft_config") else model
    if getattr(base, "pooler", None) is not None:
        base.pooler = None
    return model
