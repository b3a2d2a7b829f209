"""The base models of ``toy:shapes?process=...``, kept in the user's cache as pipelines.

Those of the default options for ``v`` and ``flow`` come with the package, as they take the better part of an hour on a
processor (see ``package``); any other one is trained at first use.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import nn

from rather.errors import UserError
from rather.paths import cache_dir
from rather.policies.pipelines.files import is_pipeline
from rather.policies.shapes.processes import Process
from rather.worlds.query import QueryOptions, read_options, split_query

_VERSION = 1  # of the base models; raise it when their pretraining changes
STEPS: dict[Process, int] = {"epsilon": 6500, "v": 6500, "flow": 3600}


class ShapesModelOptions(QueryOptions):
    process: Process = Field(
        "v", description="epsilon or v (a UNet that predicts noise or v) or flow (a transformer, rectified flow)"
    )
    seed: int = Field(0, ge=0, description="of the base model")
    steps: int | None = Field(None, ge=1, description="pretraining steps of 32 pictures; fewer leave a poorer model")


def base_folder(name: str) -> Path:
    """The folder of the pipeline ``toy:shapes?...``. A second process that asks for it waits for the first.

    Raises:
        UserError: an unknown option, or a cache that cannot be written.
    """
    from filelock import FileLock

    options = read_options(ShapesModelOptions, split_query(name.removeprefix("toy:"), name)[1], name)
    steps = options.steps or STEPS[options.process]
    folder = cache_dir() / "toys" / f"shapes-{options.process}-v{_VERSION}-seed{options.seed}-steps{steps}"
    if is_pipeline(folder):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not is_pipeline(folder):
                packaged = options.seed == 0 and steps == STEPS[options.process]
                _save(_packaged(options.process) if packaged else None, options.process, steps, options.seed, folder)
    except OSError as error:
        fix = "set RATHER_CACHE to a writable folder"
        raise UserError(f"the cache cannot be written: {error}", where=str(folder), fix=fix) from error
    return folder


def trained_parts(pipeline: Any) -> dict[str, nn.Module]:
    """What pretraining trains: text encoders and denoiser, by name."""
    named = ("unet", "transformer", "text_encoder")
    return {name: part for name, part in pipeline.components.items() if name.startswith(named) and part is not None}


def packaged_weights(process: Process) -> Path:
    return Path(__file__).parent / "weights" / f"{process}.safetensors"


def _packaged(process: Process) -> Path | None:
    path = packaged_weights(process)
    return path if path.is_file() else None


def _save(packaged: Path | None, process: Process, steps: int, seed: int, folder: Path) -> None:
    from rather.policies.shapes.build import build

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pipeline = build(process)
    if packaged is not None:
        _fill(pipeline, packaged)
    else:
        _train(pipeline, process, steps, seed)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as partial:
        pipeline.save_pretrained(str(Path(partial) / "pipeline"), safe_serialization=True)
        os.replace(Path(partial) / "pipeline", folder)


def _fill(pipeline: Any, packaged: Path) -> None:
    """Weights are packaged in half precision; the models are in single precision."""
    from safetensors.torch import load_file

    tensors = load_file(packaged)
    for name, part in trained_parts(pipeline).items():
        mine = {key.removeprefix(f"{name}/"): x for key, x in tensors.items() if key.startswith(f"{name}/")}
        part.load_state_dict({key: x.float() if x.is_floating_point() else x for key, x in mine.items()}, strict=False)


def _train(pipeline: Any, process: Process, steps: int, seed: int) -> None:
    from rich.console import Console
    from rich.progress import Progress

    from rather.policies.shapes.pretrain import pretrain

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(f"training the base model of shapes ({process}), once", total=steps)
        pretrain(pipeline, steps, seed, lambda step, loss: bar.update(task, completed=step))
