"""The base models of ``toy:shapes?process=...``, kept in the user's cache as pipelines."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from pydantic import Field

from rather.paths import cache_dir
from rather.policies.pipelines.files import is_pipeline
from rather.policies.shapes.processes import Process
from rather.policies.toys import made_once
from rather.worlds.query import QueryOptions, read_options, split_query

_VERSION = 2  # of the base models; raise it when their pretraining changes


class ShapesModelOptions(QueryOptions):
    process: Process = Field(
        "v", description="epsilon or v (a UNet that predicts noise or v) or flow (a transformer, rectified flow)"
    )
    seed: int = Field(0, ge=0, description="of the base model")
    steps: int | None = Field(None, ge=1, description="pretraining steps of 64 pictures; fewer leave a poorer model")


def base_folder(name: str) -> Path:
    """The folder of the pipeline ``toy:shapes?...``.

    Without a seed and steps, ``v`` and ``flow`` come with the package; others are trained at first use, nearly an hour on
    a processor. An interrupted training goes on where it was, and a second process that asks for the same model waits for
    the first.

    Raises:
        UserError: an unknown option, or a cache that cannot be written.
    """
    from rather.policies.pipelines.quiet import quiet
    from rather.policies.shapes import weights

    options = read_options(ShapesModelOptions, split_query(name.removeprefix("toy:"), name)[1], name)
    steps = options.steps or weights.STEPS
    folder = cache_dir() / "toys" / f"shapes-{options.process}-v{_VERSION}-seed{options.seed}-steps{steps}"

    def make() -> None:
        kept = folder.with_name(f"{folder.name}.training")
        pipeline = weights.base(options.process, steps, options.seed, kept)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as partial:
            with quiet():
                pipeline.save_pretrained(str(Path(partial) / "pipeline"), safe_serialization=True)
            os.replace(Path(partial) / "pipeline", folder)
        kept.unlink(missing_ok=True)

    if not is_pipeline(folder):
        made_once(folder, lambda: is_pipeline(folder), make)
    return folder
