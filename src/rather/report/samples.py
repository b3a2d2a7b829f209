"""Sampled answers side by side: text, or picture files embedded in the page."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rather.report.numbers import shown
from rather.report.run_folder import RunFolder

SHOWN = 40
"""Samples shown; the rest are counted."""

PICTURE_BYTES = 24_000_000
"""Bytes of pictures embedded at most, so that the page still opens."""

TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp", ".gif": "image/gif"}


@dataclass(frozen=True)
class Check:
    """The outcome of a program's check: ``passed`` is ``None`` for a score that neither passes nor fails."""

    name: str
    passed: bool | None
    value: str = ""


@dataclass(frozen=True)
class Answer:
    """One answer: text, or a picture as a data URI with its alternative text."""

    title: str
    text: str = ""
    picture: str = ""
    alt: str = ""
    checks: tuple[Check, ...] = ()


@dataclass(frozen=True)
class Sample:
    prompt: str
    answers: tuple[Answer, ...]


@dataclass
class Samples:
    """What is shown, and how many samples or pictures are not."""

    shown: list[Sample] = field(default_factory=list)
    more: int = 0
    pictures_left_out: int = 0


def collect(run: RunFolder) -> Samples:
    """The samples of a run: the rows of ``samples.jsonl``, else the pictures of ``samples/``."""
    found = Samples(more=max(0, len(run.samples) - SHOWN))
    album = _Album(run.path)
    for row in run.samples[:SHOWN]:
        prompt = plain(row.get("prompt", ""))
        answers = tuple(
            _answer(album, title, key, row, prompt)
            for key, title in (("before", "Before"), ("after", "After"))
            if row.get(key) is not None
        )
        found.shown.append(Sample(prompt, answers))
    if not run.samples:
        names = sorted(path.name for path in (run.path / "samples").glob("*"))
        pictures = [path for name in names if (path := album.find(f"samples/{name}"))]
        found.more = max(0, len(pictures) - SHOWN)
        for path in pictures[:SHOWN]:
            uri = album.embed(path)
            if uri:
                found.shown.append(Sample("", (Answer(path.stem, picture=uri, alt=f"Sampled picture {path.stem}"),)))
    found.pictures_left_out = album.left_out
    return found


def plain(value: Any) -> str:
    """A prompt or answer as text: a string, or a conversation with the speakers' roles."""
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return "\n\n".join(plain(item) for item in value)
    if isinstance(value, Mapping):
        if "content" in value:
            return f"{value.get('role', 'message')}: {plain(value['content'])}"
        return plain(value.get("text", str(dict(value))))
    return "" if value is None else str(value)


def _answer(album: _Album, title: str, key: str, row: Mapping[str, Any], prompt: str) -> Answer:
    value = row[key]
    checks = _checks(row.get("checks"), key)
    path = album.find(value)
    if path is None:
        return Answer(title, text=plain(value), checks=checks)
    uri = album.embed(path)
    when = "before" if key == "before" else "after"
    alt = f"Picture sampled {when} training for the prompt: {prompt}"
    text = "" if uri else f"{path.name} (picture left out: the page would be too large)"
    return Answer(title, text, picture=uri, alt=alt, checks=checks)


def _checks(value: Any, side: str) -> tuple[Check, ...]:
    """Checks of one side, from ``{side: {name: result}}``, ``{side: result}`` or ``{name: {side: result}}``."""
    if not isinstance(value, Mapping):
        return ()
    if side in value:
        inner = value[side]
        if not isinstance(inner, Mapping):
            inner = {"check": inner}
    else:
        inner = {name: both[side] for name, both in value.items() if isinstance(both, Mapping) and side in both}
    found = []
    for name, result in inner.items():
        if isinstance(result, bool):
            found.append(Check(str(name), result))
        elif isinstance(result, int | float):
            found.append(Check(str(name), None, shown(result)))
        elif result is not None:
            found.append(Check(str(name), None, str(result)))
    return tuple(found)


class _Album:
    """Pictures of one run folder, embedded up to a budget; nothing outside the folder is read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.left, self.left_out = PICTURE_BYTES, 0

    def find(self, value: Any) -> Path | None:
        if not isinstance(value, str) or len(value) > 300 or Path(value).suffix.lower() not in TYPES:
            return None
        for candidate in (self.folder / value, self.folder / "samples" / value):
            path = candidate.resolve()
            if path.is_relative_to(self.folder) and path.is_file():
                return path
        return None

    def embed(self, path: Path) -> str:
        """The picture as a data URI, or an empty string once the budget is spent."""
        size = path.stat().st_size
        if size > self.left:
            self.left_out += 1
            return ""
        self.left -= size
        return f"data:{TYPES[path.suffix.lower()]};base64,{base64.b64encode(path.read_bytes()).decode()}"
