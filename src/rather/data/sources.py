"""What a name stands for: a file, a folder of files, a saved data set, or one on the hub."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rather.data.hub import hub_rows, is_saved, saved_rows
from rather.data.reading import Row, can_read, read_rows
from rather.errors import UserError

_SPLITS = {
    "train": "train",
    "training": "train",
    "test": "test",
    "eval": "test",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
}


@dataclass(frozen=True)
class Opened:
    """Numbered rows of one file or data set, all of one format; ``path`` names it in messages."""

    path: str
    rows: Iterable[Row]


def open_source(name: str, split: str | None) -> Iterator[Opened]:
    """The parts of a source, opened one after the other.

    Raises:
        UserError: there is no such file, the folder has no data file, or the data set or split is unknown.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        if is_saved(path):
            return iter([Opened(name, saved_rows(name, split))])
        return (Opened(str(file), read_rows(file)) for file in _files(path, split))
    if path.is_file():
        if path.stat().st_size == 0:
            raise UserError("the file is empty", where=name, fix="write one row a line")
        return iter([Opened(name, read_rows(path))])
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?(:[\w.-]+)?", name) or can_read(path) or name.startswith("."):
        raise UserError("no such file or folder", where=name, fix=_similar(path))
    return iter([Opened(name, hub_rows(name, split))])


def split_of(file: Path, root: Path) -> str | None:
    """The split that a file's name, or that of a folder above it, stands for."""
    for part in reversed(file.relative_to(root).parts):
        for word in re.split(r"[^a-z]+", part.lower()):
            if word in _SPLITS:
                return _SPLITS[word]
    return None


def _files(folder: Path, split: str | None) -> list[Path]:
    inner = (file for file in sorted(folder.rglob("*")) if file.is_file() and can_read(file))
    files = [file for file in inner if not any(part.startswith(".") for part in file.relative_to(folder).parts)]
    if not files:
        fix = "give a file, or a folder with .jsonl, .json, .csv, .parquet or .arrow files"
        raise UserError("the folder holds no data file", where=str(folder), fix=fix)
    by_split: dict[str | None, list[Path]] = {}
    for file in files:
        by_split.setdefault(split_of(file, folder), []).append(file)
    if split is None:
        return by_split["train"] if "train" in by_split and len(by_split) > 1 else files
    wanted = _SPLITS.get(split, split)
    if wanted not in by_split:
        there = ", ".join(sorted(name for name in by_split if name)) or "none"
        raise UserError(f"no file is named after the split {split!r}", where=str(folder), fix=f"splits: {there}")
    return by_split[wanted]


def _similar(path: Path) -> str:
    import difflib

    folder = path.parent
    if not folder.is_dir():
        return f"the folder {folder} does not exist either"
    close = difflib.get_close_matches(path.name, [entry.name for entry in folder.iterdir()], n=1, cutoff=0.6)
    return f"did you mean {folder / close[0]}?" if close else "give a file, a folder or a data set's name"
