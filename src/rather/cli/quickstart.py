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
    "sft": 1.0,
    "lora": True,
    "learning_rate": 1e-3,
    "batch_size": 8,
    "max_steps": 79,
    "eval_limit": 64,
    "eval_steps": 0,
}
"""What ``rather train`` is given; the same settings are in the run's ``config.yaml``. Chosen on prompts that are neither
trained on nor held out."""


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
