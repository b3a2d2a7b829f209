"""The base models of ``toy:shapes?process=...``: trained at first use and kept in the user's cache, as pipelines.

On a processor that takes about an hour; an interrupted training goes on where it was.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import torch
from pydantic import Field

from rather.paths import cache_dir
from rather.policies.pipelines.files import is_pipeline
from rather.policies.shapes.processes import Process
from rather.policies.toys import made_once
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
    options = read_options(ShapesModelOptions, split_query(name.removeprefix("toy:"), name)[1], name)
    steps = options.steps or STEPS[options.process]
    folder = cache_dir() / "toys" / f"shapes-{options.process}-v{_VERSION}-seed{options.seed}-steps{steps}"
    if is_pipeline(folder):
        return folder
    made_once(folder, lambda: is_pipeline(folder), lambda: _make(options.process, steps, options.seed, folder))
    return folder


def _make(process: Process, steps: int, seed: int, folder: Path) -> None:
    from rich.console import Console
    from rich.progress import Progress

    from rather.policies.shapes.build import build
    from rather.policies.shapes.pretrain import pretrain

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pipeline = build(process)
    kept = folder.with_name(f"{folder.name}.training")
    with Progress(*Progress.get_default_columns(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(f"training the base model of shapes ({process}), once", total=steps)
        pretrain(pipeline, steps, seed, kept, lambda step, loss: bar.update(task, completed=step))
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as partial:
        pipeline.save_pretrained(str(Path(partial) / "pipeline"), safe_serialization=True)
        os.replace(Path(partial) / "pipeline", folder)
    kept.unlink(missing_ok=True)
