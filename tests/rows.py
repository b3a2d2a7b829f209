"""Writing tiny data files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def jsonl(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


PAIR = {"prompt": "Name a colour.", "chosen": "Blue.", "rejected": "Seven."}


def pair(number: int, **more: Any) -> dict[str, Any]:
    return {"prompt": f"Question {number}?", "chosen": f"Answer {number}.", "rejected": f"No {number}.", **more}
