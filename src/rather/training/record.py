"""The run folder: who may write into it, its settings and its record."""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from rather.errors import UserError, nearest
from rather.training import settings
from rather.training.config import NEUTRAL, TrainConfig

PACKAGES = ("rather", "torch", "transformers", "accelerate", "peft", "datasets", "safetensors")


def write_json(path: Path, value: Any) -> None:
    """Write beside and rename."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, default=str) + "\n")


def write_text(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file; empty when there is none or it cannot be read."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return {}
    return value if isinstance(value, dict) else {}


def default_output(config: TrainConfig) -> Path:
    parts = [Path(config.model.rstrip("/")).name, config.method, Path(config.data.rstrip("/")).stem]
    safe = ["".join(c if c.isalnum() or c in "._" else "-" for c in part).strip("-") for part in parts]
    return Path("runs") / "-".join(part for part in safe if part)


def check_output(output: Path, *, resume: bool) -> str | None:
    """Whether a run may start (or go on) in this folder; the status of the run that is there.

    Raises:
        UserError: another run is there, there is nothing to resume, or the folder cannot be written.
    """
    where = str(output)
    if output.exists() and not output.is_dir():
        raise UserError("is a file; a run needs a folder", where=where, fix="give another --output")
    status = read_json(output / "run.json").get("status") if output.is_dir() else None
    if resume:
        if not (output / "config.yaml").is_file():
            raise UserError(
                "there is no run to resume", where=where, fix="leave --resume out to start one, or give its --output"
            )
        return str(status or "interrupted")
    if (output / "run.json").exists() or (output / "config.yaml").exists():
        if status == "finished":
            raise UserError("holds a finished run", where=where, fix="give another --output")
        fix = "go on with it: the same command with --resume; or give another --output"
        raise UserError(f"holds a run that is not finished (it is {status or 'unreadable'})", where=where, fix=fix)
    if output.is_dir() and any(output.iterdir()):
        raise UserError("is not empty, and what it holds is not a run", where=where, fix="give another --output")
    check_writable(output)
    return None


def check_writable(output: Path) -> None:
    """Raises a ``UserError`` when nothing can be written at ``output``; creates nothing that stays."""
    parent = output
    while not parent.exists():
        parent = parent.parent
    try:
        with tempfile.NamedTemporaryFile(dir=parent):
            pass
    except OSError as error:
        raise UserError(
            f"cannot be written: {error.strerror or error}", where=str(output), fix="give another --output"
        ) from None


def check_unchanged(config: TrainConfig, output: Path) -> TrainConfig:
    """The settings that the run was started with, under the neutral ones of ``config``.

    Raises:
        UserError: a setting that decides the result is not what it was; settings left to be chosen (``auto``) agree.
    """
    path = output / "config.yaml"
    saved = settings.resolve(settings.from_yaml(path))
    now, then = config.flat(), saved.flat()
    changed = [
        name
        for name in sorted({*now, *then} - NEUTRAL)
        if now.get(name) != then.get(name) and now.get(name) not in (None, "auto")
    ]
    if changed:
        told = "; ".join(f"{name} was {then.get(name)!r}, is {now.get(name)!r}" for name in changed)
        fix = f"resume with the settings of the run (--config {path} --resume), or give another --output"
        raise UserError(f"the run was started with other settings: {told}", where=str(path), fix=fix)
    neutral = {name: value for name, value in config.model_dump().items() if name in NEUTRAL}
    return saved.model_copy(update=neutral)


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def command() -> str:
    """The command line as a shell takes it; ``rather`` for whatever path it was started by."""
    name = Path(sys.argv[0]).name
    return shlex.join(["rather" if name in ("rather", "__main__.py") else name, *sys.argv[1:]])


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


class Record:
    """``run.json``; only the first process writes it."""

    def __init__(self, output: Path, *, write: bool) -> None:
        self.path, self.write = output / "run.json", write
        self.values: dict[str, Any] = read_json(self.path)

    def update(self, values: Mapping[str, Any]) -> None:
        self.values |= values
        if self.write:
            write_json(self.path, self.values)

    def warn(self, text: str) -> None:
        told = list(self.values.get("warnings", []))
        if text not in told:
            self.update({"warnings": [*told, text]})


def check_metric(name: str, result: Mapping[str, Any]) -> None:
    """Raises a ``UserError`` when an evaluation has no number of this name."""
    if not isinstance(result.get(name), int | float):
        names = [key for key, value in result.items() if isinstance(value, int | float)]
        raise UserError(f"evaluation has no number {name!r}", where="--best-metric", fix=nearest(name, names))
