"""``rather train``: settings from a file and flags, then one run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from rather.cli.options import with_flags
from rather.training.config import TrainConfig, flags, panel

CONTEXT = {"allow_extra_args": True, "ignore_unknown_options": True}
"""What is no setting may be an option of the method; ``settings.resolve`` tells, and names the nearest."""


def _train(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="YAML file of settings; flags win over it", show_default=False),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="print nothing but errors")] = False,
    **values: Any,
) -> None:
    """Train a model on preferences.

    Every setting is a flag and a key of the YAML file. Options of the method are flags too: --beta 0.2,
    --labels.flip_rate 0.1; rather explain METHOD lists them. Run it under `accelerate launch` for several processes.
    """
    from rather.training import settings

    given = settings.from_flags(values, list(context.args))
    if config is not None:
        given = given.over(settings.from_yaml(config))
    resolved = settings.resolve(given)
    from rather.training.run import run

    result = run(resolved, quiet=quiet)
    if result.status == "interrupted":
        raise typer.Exit(130)


_train.__name__ = "train"
train = with_flags(_train, TrainConfig.model_fields, flags(), panel)
