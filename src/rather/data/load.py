"""Read preference data (minimal reader)."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rather.data.types import Comparison, Edge, Source
from rather.errors import UserError


@dataclass
class Refusal:
    source: Source
    code: str
    reason: str


@dataclass
class Comparisons(Sequence[Comparison]):
    items: list[Comparison]
    refused: list[Refusal] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index):  # type: ignore[override]
        return self.items[index]

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256("".join(c.id for c in self.items).encode()).hexdigest()[:16]


def _turns(text: str):
    import re

    parts = re.split(r"\n\n(Human|Assistant):", text)
    if len(parts) < 3:
        return None
    return [
        {"role": "user" if who == "Human" else "assistant", "content": said.strip()}
        for who, said in zip(parts[1::2], parts[2::2], strict=True)
    ]


def _rows(path: Path) -> Iterator[tuple[int, Any]]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, json.loads(line)


def load(source: str | Path, *, split: str | None = None, strict: bool = False, limit: int | None = None) -> Comparisons:
    if str(source).startswith("world:"):
        from rather.worlds.catalog import load_world

        return Comparisons(load_world(str(source)))
    path = Path(source)
    if not path.exists():
        raise UserError("no such file or data set", where=str(source), fix="give a file, a folder or a data set's name")
    found, refused = [], []
    for number, row in _rows(path):
        where = Source(str(path), number)
        chosen, rejected, prompt = row.get("chosen"), row.get("rejected"), row.get("prompt")
        if prompt is None and isinstance(chosen, str):
            a, b = _turns(chosen), _turns(rejected)
            if not a or not b or a[:-1] != b[:-1] or a[-1]["role"] != "assistant" or b[-1]["role"] != "assistant":
                refused.append(Refusal(where, "prompts-differ", "the transcripts do not share their prompt"))
                continue
            prompt, chosen, rejected = tuple(a[:-1]), a[-1]["content"], b[-1]["content"]
        if isinstance(prompt, list):
            prompt = tuple(prompt)
        if not chosen or not rejected or chosen == rejected:
            refused.append(Refusal(where, "empty-or-equal", "a response is empty or both are the same"))
            continue
        key = hashlib.sha256(json.dumps([prompt, chosen, rejected]).encode()).hexdigest()[:16]
        found.append(
            Comparison(str(row.get("id", key)), prompt, (chosen, rejected), (Edge(0, 1),), source=where)
        )
    unique = {c.id: c for c in found}
    return Comparisons(list(unique.values()), refused, {"format": "preference"})
