"""The base models of ``toy:shapes?process=...``: trained at first use and kept in the user's cache, as pipelines."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import torch
from pydantic import Field

from rather.errors import UserError
from rather.paths import cache_dir
from rather.policies.pipelines.files import is_pipeline
from rather.policies.shapes.processes import Process
from rather.worlds.query import QueryOptions, read_options, split_query

_VERSION = 1  # of the base models; raise it when their pretraining changes
_STEPS = 1000


class ShapesModelOptions(QueryOptions):
    process: Process = Field(
        "epsilon", description="epsilon or v (a UNet that predicts noise or v) or flow (a transformer, rectified flow)"
    )
    seed: int = Field(0, ge=0, description="of the base model")
    steps: int = Field(_STEPS, ge=1, description="pretraining steps of 64 pictures; fewer leave a poorer base model")


def base_folder(name: str) -> Path:
    """The folder of the pipeline ``toy:shapes?...``. A second process that asks for it waits for the first.

    Raises:
        UserError: an unknown option, or a cache that cannot be written.
    """
    options = read_options(ShapesModelOptions, split_query(name.removeprefix("toy:"), name)[1], name)
    known = f"shapes-{options.process}-v{_VERSION}-seed{options.seed}-steps{options.steps}"
    folder = cache_dir() / "toys" / known
    if is_pipeline(folder):
        return folder
    try:
        from filelock import FileLock

        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not is_pipeline(folder):
                _train(options, folder)
    except OSError as error:
        fix = "set RATHER_CACHE to a writable folder"
        raise UserError(f"the cache cannot be written: {error}", where=str(folder), fix=fix) from error
    return folder


def _train(options: ShapesModelOptions, folder: Path) -> None:
    from rich.console import Console
    from rich.progress import Progress

    from rather.policies.shapes.build import build
    from rather.policies.shapes.pretrain import pretrain

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        pipeline = build(options.process)
    console = Console(stderr=True)
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(f"training the base model of shapes ({options.process}), once", total=options.steps)
        pretrain(pipeline, options.steps, options.seed, lambda step, loss: bar.update(task, completed=step))
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as partial:
        pipeline.save_pretrained(str(Path(partial) / "pipeline"), safe_serialization=True)
        os.replace(Path(partial) / "pipeline", folder)
