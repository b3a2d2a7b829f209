"""``rather quickstart``: the whole way, from preferences to an aligned model and its report, in a few minutes."""

from __future__ import annotations

import inspect
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

TEXT: dict[str, Any] = {
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

SAMPLED: dict[str, Any] = {
    "model": "toy:shapes?process=flow",
    "data": "world:shapes?pairs=600",
    "judge": "checker:shapes-grades",
    "n": 4,
    "steps": 10,
    "guidance": 3.0,
}
"""What ``rather sample`` is given for images: pairs are the best and the worst of four of the model's own images."""

IMAGES: dict[str, Any] = {
    "model": SAMPLED["model"],
    "eval_data": "world:shapes?split=eval&pairs=200",
    "method": "diffusion_dpo",
    "beta": 100.0,
    "learning_rate": 5e-5,
    "batch_size": 32,
    "max_tokens": 4096,
    "epochs": 8,
    "eval_steps": 0,
}
"""What ``rather train`` is then given."""


class What(StrEnum):
    """What is aligned."""

    text = "text"
    images = "images"


def quickstart(
    what: Annotated[
        What,
        typer.Argument(help="text: a language model of 135 M; images: a small diffusion model of coloured shapes"),
    ] = What.text,
    output: Annotated[
        Path | None, typer.Option(help="run folder (default: runs/quickstart, runs/quickstart-images)")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="decides order, adapters and noise")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="go on with an interrupted run")] = False,
) -> None:
    """Align a small model on built-in preferences: answers that obey instructions, or images that show what their captions
    ask for. A program checks both."""
    from rather.training import settings
    from rather.training.run import run

    given, folder = TEXT, output or Path("runs") / "quickstart"
    if what is What.images:
        folder = output or Path("runs") / "quickstart-images"
        given = {**IMAGES, "data": str(_pairs(folder))}
    run(settings.resolve(settings.from_keywords({**given, "output": str(folder), "seed": seed, "resume": resume})))


def _pairs(folder: Path) -> Path:
    """The file of pairs beside a run's folder, made if it is not there."""
    from rather.cli import sample

    out = folder.with_name(f"{folder.name}-pairs.jsonl")
    if not out.is_file():
        out.parent.mkdir(parents=True, exist_ok=True)
        typer.echo(f"sampling pairs of the model's own images into {out}", err=True)
        defaults = inspect.signature(sample.sample).parameters
        given = {name: one.default for name, one in defaults.items() if one.default is not one.empty}
        sample.sample(**{**given, **SAMPLED, "out": out})
    return out
