"""``rather quickstart``: the whole way, from preferences to an aligned model and its report, in a few minutes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

SETTINGS = {
    "model": "smollm2-135m",
    "data": "world:instructions",
    "eval_data": "world:instructions?split=eval",
    "method": "dpo",
    "beta": 0.1,
    "lora": True,
    "learning_rate": 2e-4,
    "batch_size": 16,
    "epochs": 1.0,
    "eval_steps": 21,
    "sample_tokens": 64,
}
"""What ``rather train`` is given; the same settings are in the run's ``config.yaml``."""


def quickstart(
    output: Annotated[Path, typer.Option(help="run folder")] = Path("runs/quickstart"),
    seed: Annotated[int, typer.Option(min=0, help="decides order, adapters and noise")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="go on with an interrupted run")] = False,
) -> None:
    """Align a small model on built-in preferences: answers that obey instructions a program can check."""
    from rather.training import settings
    from rather.training.run import run

    config = settings.resolve(
        settings.from_keywords({**SETTINGS, "output": str(output), "seed": seed, "resume": resume})
    )
    run(config)
