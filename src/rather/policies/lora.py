"""Low-rank adapters by peft: wrapping a model, and looking at the model as it was before training.

A fresh adapter starts as the identity (its second factor is zero), so the model before training is the model with
adapters off. A loaded adapter that is trained further is kept a second time, frozen, as ``reference``: switching to
that copy gives the model as it was loaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from rather.errors import UserError
from rather.policies.settings import PolicySettings

REFERENCE = "reference"
"""Name of the frozen copy of a loaded adapter."""


def add_lora(model: Any, settings: PolicySettings, *, seed: int = 0) -> Any:
    """A ``PeftModel`` with a fresh adapter; the model's own weights are frozen.

    Args:
        seed: of the adapter's random first factor.

    Raises:
        UserError: no layer of the model is called as ``lora_targets`` says.
    """
    from peft import LoraConfig, TaskType, get_peft_model

    from rather.policies.lora_layers import fuse

    targets: str | list[str] = settings.lora_targets
    if targets != "all-linear":
        targets = [name.strip() for name in settings.lora_targets.split(",") if name.strip()]
    generates = hasattr(model, "prepare_inputs_for_generation")  # an encoder does not
    config = LoraConfig(
        task_type=TaskType.CAUSAL_LM if generates else TaskType.FEATURE_EXTRACTION,
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,  # type: ignore[arg-type]  # annotated int, used as a number
        lora_dropout=settings.lora_dropout,
        target_modules=targets,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            wrapped = get_peft_model(model, config)
        except ValueError as error:
            linear = sorted({n.rsplit(".", 1)[-1] for n, m in model.named_modules() if isinstance(m, nn.Linear)})
            raise UserError(
                f"no layer can take an adapter: {str(error).splitlines()[0]}",
                where=f"--lora-targets {settings.lora_targets}",
                fix=f"linear layers of this model: {', '.join(linear)}" if linear else None,
            ) from error
    fuse(wrapped)
    return wrapped


def keep_reference_adapter(model: Any, folder: str) -> None:
    """Load the adapter in ``folder`` a second time, frozen, beside the one that is trained."""
    model.load_adapter(folder, adapter_name=REFERENCE, is_trainable=False)


@contextmanager
def before_training(model: Any) -> Iterator[None]:
    """The ``PeftModel`` as it was before training: adapters off, or the frozen copy of a loaded adapter.

    Which parameters require gradients is put back, so an optimizer does not notice.
    """
    if REFERENCE not in model.peft_config:
        with model.disable_adapter():
            yield
        return
    active = model.active_adapter
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        model.set_adapter(REFERENCE)
        _restore(flags)
        yield
    finally:
        model.set_adapter(active)
        _restore(flags)


def _restore(flags: list[tuple[nn.Parameter, bool]]) -> None:
    for parameter, flag in flags:
        parameter.requires_grad_(flag)
