"""Read a run folder: everything a run wrote, as plain values, whatever state the run is in.

A run that is still going, was interrupted, or never evaluated lacks files; what is missing reads as empty. What cannot
be read is told in ``problems`` and never guessed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from rather.errors import UserError

MARKS = ("run.json", "metrics.jsonl", "config.yaml")
FIX = "give the --output folder of rather train"


@dataclass(frozen=True)
class RunFolder:
    """What a run wrote.

    Attributes:
        run: ``run.json``: status, command, method, versions, model, data.
        config: ``config.yaml``, parsed; ``config_text`` is the file itself.
        metrics: the rows of ``metrics.jsonl`` in the order they were written.
        evaluation: ``evaluation.json``: held-out numbers before and after.
        samples: the rows of ``samples.jsonl``.
        problems: one sentence for each thing that could not be read.
    """

    path: Path
    run: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    config_text: str = ""
    metrics: list[dict[str, Any]] = field(default_factory=list)
    evaluation: dict[str, Any] = field(default_factory=dict)
    samples: list[dict[str, Any]] = field(default_factory=list)
    problems: tuple[str, ...] = ()

    @property
    def status(self) -> str:
        return str(self.run.get("status") or "unknown")

    @property
    def model_name(self) -> str:
        """The model that was trained, as the user named it."""
        for table in (self.run.get("model"), self.config.get("policy"), self.config):
            if isinstance(table, dict):
                for key in ("name", "model", "path"):
                    if isinstance(table.get(key), str):
                        return table[key]
        model = self.run.get("model")
        return model if isinstance(model, str) else "unknown model"

    @property
    def model_kind(self) -> str:
        """What was trained: ``language``, ``reward``, ``diffusion``, ``flow``, ...; empty where it is not told."""
        model = self.run.get("model")
        return str(model.get("kind") or "") if isinstance(model, dict) else ""

    @property
    def is_reward_model(self) -> bool:
        """Whether what was trained scores answers and does not write them."""
        return self.model_kind == "reward"

    @property
    def method(self) -> dict[str, Any]:
        """Name, title, equation, source and options of the method."""
        method = self.run.get("method", self.config.get("method", {}))
        return method if isinstance(method, dict) else {"name": str(method)}


def require_run(path: Path) -> Path:
    """The path, if it is a run folder.

    Raises:
        UserError: there is no such folder, or it holds none of a run's files.
    """
    if not path.is_dir():
        kind = "is a file" if path.exists() else "does not exist"
        raise UserError(f"{kind}; a run folder is asked for", where=str(path), fix=FIX)
    if not any((path / name).exists() for name in MARKS):
        inside = sorted(child.parent.name for name in MARKS for child in path.glob(f"*/{name}"))
        found = f"it holds runs: {', '.join(dict.fromkeys(inside))}" if inside else FIX
        raise UserError(f"is not a run folder: it has none of {', '.join(MARKS)}", where=str(path), fix=found)
    return path


def read_run(path: Path) -> RunFolder:
    """Everything in a run folder.

    Raises:
        UserError: ``path`` is not a run folder.
    """
    require_run(path)
    problems: list[str] = []
    config_text = _text(path / "config.yaml", problems)
    config: Any = {}
    try:
        config = yaml.safe_load(config_text) or {}
    except yaml.YAMLError:
        problems.append("config.yaml is not valid YAML; it is shown as it is.")
    return RunFolder(
        path=path,
        run=_object(path / "run.json", problems),
        config=config if isinstance(config, dict) else {},
        config_text=config_text,
        metrics=_rows(path / "metrics.jsonl", problems),
        evaluation=_object(path / "evaluation.json", problems),
        samples=_rows(path / "samples.jsonl", problems),
        problems=tuple(problems),
    )


def _text(path: Path, problems: list[str]) -> str:
    if not path.exists():
        return ""
    data = path.read_bytes()
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        problems.append(f"{path.name} is not wholly UTF-8; the bytes that are not show as \ufffd.")
        return data.decode("utf-8", errors="replace")


def _object(path: Path, problems: list[str]) -> dict[str, Any]:
    text = _text(path, problems)
    if not text.strip():
        return {}
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        problems.append(f"{path.name} is not valid JSON ({error}); what it says is left out.")
        return {}
    if not isinstance(value, dict):
        problems.append(f"{path.name} holds no JSON object; what it says is left out.")
        return {}
    return value


def _rows(path: Path, problems: list[str]) -> list[dict[str, Any]]:
    """Rows of a JSONL file; a line cut off by a crash is left out and told."""
    rows, broken = [], []
    for number, line in enumerate(_text(path, problems).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            broken.append(number)
            continue
        if isinstance(row, dict):
            rows.append(row)
        else:
            broken.append(number)
    if broken:
        lines = ", ".join(map(str, broken[:5])) + (", ..." if len(broken) > 5 else "")
        problems.append(f"{path.name}: {len(broken)} unreadable line(s) left out (line {lines}).")
    return rows
