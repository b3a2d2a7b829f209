"""Checkpoints: folders that are whole if they are there.

A checkpoint is written under a temporary name and renamed when every file is on disk, so a process killed at any
moment leaves either the whole folder or one that is ignored. Tensors are safetensors, the rest is JSON.

Random state is not in it: every step seeds the generators from (seed, step, rank), the learning rate is a function of
the step, and the order of the data one of (seed, epoch), so the number of the step says all three.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from rather.errors import UserError

VERSION = 1
_NAME = re.compile(r"step-(\d{8})")
BEST = "best"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was found whole."""

    folder: Path
    state: dict[str, Any]

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return int(self.state["step"])

    def tensors(self, part: str) -> dict[str, Tensor]:
        """``model``, ``optimizer``, ``objective`` or ``reference``; empty when the part has no tensors."""
        path = self.folder / f"{part}.safetensors"
        return load_file(path) if path.exists() else {}


def write(folder: Path, state: Mapping[str, Any], parts: Mapping[str, Mapping[str, Tensor]]) -> Path:
    """Write a folder beside and rename it; ``state`` and the tensors of each part."""
    partial = folder.with_name(f".{folder.name}.partial")
    if partial.exists():
        shutil.rmtree(partial)
    try:
        partial.mkdir(parents=True)
        sizes: dict[str, int] = {}
        for name, tensors in parts.items():
            if tensors:
                path = partial / f"{name}.safetensors"
                save_file(_separate(tensors), path, metadata={"format": "pt"})
                _sync(path)
                sizes[path.name] = path.stat().st_size
        text = json.dumps({"version": VERSION, **state, "sizes": sizes}, indent=1)
        record = {"digest": hashlib.sha256(text.encode()).hexdigest(), "state": text}
        (partial / "state.json").write_text(json.dumps(record), encoding="utf-8")
        _sync(partial / "state.json")
        old = folder.with_name(f".{folder.name}.old")
        if folder.exists():
            os.replace(folder, old)
        os.replace(partial, folder)
        shutil.rmtree(old, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        fix = "free some space, then go on with --resume; --keep-checkpoints and --save-steps say how many are kept"
        raise UserError(f"the checkpoint cannot be written: {error}", where=str(folder), fix=fix) from error
    return folder


def _separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def read(folder: Path) -> Checkpoint:
    """A checkpoint folder.

    Raises:
        ValueError: it is not whole, or of another version; the message says how.
    """
    try:
        record = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        text = record["state"]
        if hashlib.sha256(text.encode()).hexdigest() != record["digest"]:
            raise ValueError("state.json was changed")
        state = json.loads(text)
    except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"state.json cannot be read ({error})") from None
    if state.get("version") != VERSION:
        raise ValueError(f"it has version {state.get('version')}, this is {VERSION}")
    for name, size in state["sizes"].items():
        path = folder / name
        if not path.exists() or path.stat().st_size != size:
            raise ValueError(f"{name} is missing or cut short")
    return Checkpoint(folder, state)


def latest(run: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest whole checkpoint of a run, and a warning for each that had to be passed over."""
    warnings = []
    for folder in reversed(_folders(run)):
        try:
            return read(folder), warnings
        except ValueError as error:
            warnings.append(f"{folder.name} is passed over: {error}")
    return None, warnings


def prune(run: Path, keep: int, best: int | None) -> None:
    """Remove all but the newest ``keep`` checkpoints and the best weights, and what a killed process left
    half-written."""
    within = run / "checkpoints"
    stale = [*_folders(run)[:-keep], *within.glob(".*.partial"), *within.glob(".*.old")]
    stale += [folder for folder in within.glob(f"{BEST}-*") if folder.name != f"{BEST}-{best or 0:08d}"]
    for folder in stale:
        shutil.rmtree(folder, ignore_errors=True)


def path_of(run: Path, step: int) -> Path:
    return run / "checkpoints" / f"step-{step:08d}"


def _folders(run: Path) -> list[Path]:
    return sorted(p for p in (run / "checkpoints").glob("step-*") if p.is_dir() and _NAME.fullmatch(p.name))


class Pace:
    """When to save, so that saving costs at most ``share`` of the time.

    Before the first save its cost is unknown; it comes after ``first`` seconds.
    """

    def __init__(self, share: float = 0.05, first: float = 60.0) -> None:
        self.share, self.wait = share, first
        self.least = first

    def due(self, since_last: float) -> bool:
        return since_last >= self.wait

    def took(self, seconds: float) -> None:
        self.wait = max(self.least, seconds * (1 - self.share) / self.share)
