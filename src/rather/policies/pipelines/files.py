"""The files by which an image pipeline is known."""

from __future__ import annotations

from pathlib import Path

PIPELINE = "model_index.json"
"""Of a whole pipeline, as diffusers writes it."""

ADAPTERS = "pipeline.json"
"""Of adapters that were trained for a pipeline: names their base."""


def is_pipeline(folder: Path) -> bool:
    """Whether a folder holds an image pipeline, or adapters of one."""
    return any((folder / name).is_file() for name in (PIPELINE, ADAPTERS))
