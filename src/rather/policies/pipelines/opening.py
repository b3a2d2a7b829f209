"""From a name to an image pipeline's policy: a folder, adapters that were trained for one, or ``image:HUB_NAME``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from rather.errors import UserError, nearest
from rather.policies.models import hub_may_answer
from rather.policies.pipelines.architectures import ARCHITECTURES, Flux, StableDiffusion3
from rather.policies.pipelines.files import ADAPTERS, PIPELINE
from rather.policies.schedule import NoiseSchedule, Prediction
from rather.policies.settings import PolicySettings

if TYPE_CHECKING:
    from rather.policies.pipelines.policy import PipelinePolicy

WEIGHTS = "pytorch_lora_weights.safetensors"
"""What diffusers calls a file of adapters."""

_OPTIONAL = {
    "StableDiffusionPipeline": ("safety_checker", "feature_extractor"),
    "StableDiffusionXLPipeline": (),
    "StableDiffusion3Pipeline": ("text_encoder_3", "tokenizer_3"),
    "FluxPipeline": (),
}
"""Parts that diffusers wants to be told of when a pipeline has none."""

_PREDICTIONS: dict[str, Prediction] = {"epsilon": "epsilon", "v_prediction": "velocity"}


def open_image(settings: PolicySettings) -> PipelinePolicy:
    """The policy of a pipeline.

    Raises:
        UserError: diffusers is not installed, the pipeline cannot be found or loaded, is of a class that is not
            supported, or lacks a part.
    """
    name = settings.model.removeprefix("image:")
    folder = Path(name).expanduser()
    adapters: Path | None = None
    if (folder / ADAPTERS).is_file():
        adapters, name = folder, str(json.loads((folder / ADAPTERS).read_text(encoding="utf-8"))["base"])
        folder = Path(name).expanduser()
    pipeline, kind = load(name, folder)
    from rather.policies.pipelines.policy import PipelinePolicy

    return PipelinePolicy(pipeline, ARCHITECTURES[kind](), schedule_of(pipeline, kind, name), settings, name, adapters)


def load(name: str, folder: Path) -> tuple[Any, str]:
    """The pipeline in float32 on the CPU, and its class's name."""
    try:
        import diffusers
    except ImportError:
        raise UserError(
            "image pipelines need diffusers", where=f"--model {name}", fix="pip install 'rather[images]'"
        ) from None
    from diffusers.utils import logging

    logging.disable_progress_bar()
    index = _index(name, folder)
    kind = index.get("_class_name")
    if not isinstance(kind, str) or kind not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        fix = nearest(str(kind), ARCHITECTURES) if isinstance(kind, str) else f"those are: {known}"
        raise UserError(
            f"pipelines of the class {kind!r} are not supported", where=name, fix=f"{fix} (known: {known})"
        )
    needed = ("vae", "scheduler", "tokenizer", "text_encoder", ARCHITECTURES[kind].component)
    missing = [part for part in needed if not index.get(part) or index[part][0] is None]
    if missing:
        raise UserError(f"the pipeline has no {missing[0]}", where=name, fix="save it whole, with save_pretrained")
    try:
        none = {part: None for part in _OPTIONAL[kind] if not index.get(part) or index[part][0] is None}
        found = getattr(diffusers, kind).from_pretrained(name, dtype=torch.float32, use_safetensors=True, **none)
    except (OSError, ValueError) as error:
        what = f"the pipeline cannot be loaded: {str(error).splitlines()[0]}"
        fix = "weights are read from safetensors only; save_pretrained writes them"
        raise UserError(what, where=name, fix=fix) from error
    found.set_progress_bar_config(disable=True)
    return found, kind


def _index(name: str, folder: Path) -> dict[str, Any]:
    """``model_index.json`` of a folder or of a hub name."""
    path = folder / PIPELINE
    if not path.is_file():
        if folder.is_dir() or folder.is_absolute() or name.startswith((".", "~")):
            raise UserError(f"there is no {PIPELINE}", where=name, fix="give a folder written by save_pretrained")
        if not hub_may_answer():
            raise _nowhere(name)
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError

        repository, _, revision = name.partition("@")
        try:
            path = Path(hf_hub_download(repository, PIPELINE, revision=revision or None))
        except (HFValidationError, HfHubHTTPError, OSError, ValueError) as error:
            raise _nowhere(name) from error
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (json.JSONDecodeError, ValueError) as error:
        raise UserError(f"{PIPELINE} is not JSON: {error}", where=name) from None


def _nowhere(name: str) -> UserError:
    fix = "give a folder, or a name of the hub when it can be reached"
    return UserError("neither a folder nor a pipeline of the hub", where=name, fix=fix)


def schedule_of(pipeline: Any, kind: str, name: str) -> NoiseSchedule:
    """The noise that the pipeline's scheduler trains with, from its configuration."""
    from diffusers import DDPMScheduler

    config = pipeline.scheduler.config
    if issubclass(ARCHITECTURES[kind], StableDiffusion3 | Flux):
        if "Flow" not in type(pipeline.scheduler).__name__:
            what = f"the scheduler {type(pipeline.scheduler).__name__} is none of a rectified flow"
            raise UserError(what, where=name, fix="use FlowMatchEulerDiscreteScheduler")
        # A shift that depends on the size of the image is a matter of sampling: the flow is trained without.
        shift = 1.0 if config.get("use_dynamic_shifting") else float(config.get("shift", 1.0))
        return NoiseSchedule.rectified_flow(int(config.num_train_timesteps), shift)
    predicted = config.get("prediction_type", "epsilon")
    if predicted not in _PREDICTIONS:
        fix = f"those are: {', '.join(_PREDICTIONS)}"
        raise UserError(f"the prediction type {predicted!r} is not supported", where=f"{name}/scheduler", fix=fix)
    trained: Any = DDPMScheduler.from_config(config)
    alpha_bar = trained.alphas_cumprod
    return NoiseSchedule.preserving(alpha_bar.double(), _PREDICTIONS[predicted])
