"""From a name to an image pipeline's policy: a folder, adapters that were trained for one, or ``image:HUB_NAME``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from rather.errors import UserError, nearest
from rather.policies.models import hub_may_answer
from rather.policies.pipelines.architectures import ARCHITECTURES
from rather.policies.pipelines.files import ADAPTERS, PIPELINE
from rather.policies.pipelines.noise import schedule_of
from rather.policies.pipelines.quiet import quiet
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
    if name.startswith("toy:"):
        _diffusers(name)
        from rather.policies.shapes.base import base_folder

        folder = base_folder(name)
        pipeline, kind = load(str(folder), folder)
    else:
        pipeline, kind = load(name, folder)
    schedule = schedule_of(pipeline, kind, name)
    return _policy_of(pipeline)(pipeline, ARCHITECTURES[kind](), schedule, settings, name, adapters)


def guide_away(policy: PipelinePolicy, name: str) -> str:
    """Let a policy's samples be guided away from another model, which was trained to be worse; returns its fingerprint.

    Args:
        name: as ``open_image`` takes it; of that pipeline only the denoiser is used.

    Raises:
        UserError: it cannot be opened, or its denoiser is none that could be in the policy's place.
    """
    other = open_image(policy.settings.model_copy(update={"model": name, "lora": False}))
    if [type(other.network), _sizes(other.network)] != [type(policy.network), _sizes(policy.network)]:
        what = f"its denoiser is not the architecture of {policy.name}"
        raise UserError(what, where=f"--negative {name}", fix="train one from the same pipeline")
    if other.schedule.prediction != policy.schedule.prediction:
        what = f"it predicts {other.schedule.prediction}, {policy.name} {policy.schedule.prediction}"
        raise UserError(what, where=f"--negative {name}", fix="train one from the same pipeline")
    policy.negative = other.network
    return other.fingerprint()


def _sizes(network: Any) -> list[tuple[str, tuple[int, ...]]]:
    """Of its weights, adapters left out."""
    named = [(name.replace(".base_layer.", "."), p) for name, p in network.named_parameters()]
    return [(name, tuple(p.shape)) for name, p in named if "lora_" not in name]


def _policy_of(pipeline: Any) -> type[PipelinePolicy]:
    """A pipeline of the world of shapes has a policy that knows the truth about its samples."""
    from rather.policies.pipelines.policy import PipelinePolicy
    from rather.policies.shapes.autoencoder import ShapesAutoencoder
    from rather.policies.shapes.policy import ShapesPolicy

    return ShapesPolicy if isinstance(pipeline.vae, ShapesAutoencoder) else PipelinePolicy


def load(name: str, folder: Path) -> tuple[Any, str]:
    """The pipeline in float32 on the CPU, and its class's name."""
    diffusers = _diffusers(name)
    from diffusers.utils import logging

    import rather.policies.shapes.autoencoder  # noqa: F401  # diffusers loads a part of ours only where it is imported

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
        with quiet("rather." in json.dumps(index)):
            found = getattr(diffusers, kind).from_pretrained(name, dtype=torch.float32, use_safetensors=True, **none)
    except (OSError, ValueError) as error:
        what = f"the pipeline cannot be loaded: {str(error).splitlines()[0]}"
        fix = "weights are read from safetensors only; save_pretrained writes them"
        raise UserError(what, where=name, fix=fix) from error
    found.set_progress_bar_config(disable=True)
    return found, kind


def _diffusers(name: str) -> Any:
    try:
        import diffusers
    except ImportError:
        raise UserError(
            "image pipelines need diffusers", where=f"--model {name}", fix="pip install 'rather[images]'"
        ) from None
    return diffusers


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
