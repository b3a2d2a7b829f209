"""The embedded prompts and pairs."""

from __future__ import annotations

import gzip
import json
from importlib import resources
from typing import Any

from rather.errors import UserError, nearest

FILES = {
    "prompts-train": "prompts-train.jsonl.gz",
    "prompts-heldout": "prompts-heldout.jsonl.gz",
    "pairs-train": "pairs-train.jsonl.gz",
    "pairs-eval": "pairs-eval.jsonl.gz",
}


def load_prompts(split: str = "train") -> list[dict[str, Any]]:
    """Prompt records of ``"train"`` or ``"heldout"``, see ``prompts.Instruction.record``.

    Raises:
        UserError: no such split.
    """
    return _read("prompts", split)


def load_pairs(split: str = "train") -> list[dict[str, Any]]:
    """Preference pairs: answers of ``smollm2-135m`` to the training prompts (``"train"``) or to the held-out ones
    (``"eval"``).

    Each row has ``id``, ``prompt`` (messages), ``chosen`` and ``rejected`` (text), ``constraints``, and by name the
    constraints that either answer obeys (``chosen_passes``, ``rejected_passes``).

    Raises:
        UserError: no such split.
    """
    return _read("pairs", split)


def summary() -> dict[str, Any]:
    """How the embedded files were made, and what the sampled model scores: see ``summary.json`` beside them."""
    return json.loads(_folder().joinpath("summary.json").read_text(encoding="utf-8"))


def _folder() -> Any:
    return resources.files("rather.worlds.instructions").joinpath("data")


def _read(what: str, split: str) -> list[dict[str, Any]]:
    key = f"{what}-{split}"
    if key not in FILES:
        splits = [name.split("-", 1)[1] for name in FILES if name.startswith(f"{what}-")]
        raise UserError(f"the instruction world has no {what} split {split!r}", fix=nearest(split, splits))
    raw = _folder().joinpath(FILES[key]).read_bytes()
    return [json.loads(line) for line in gzip.decompress(raw).decode("utf-8").splitlines()]
