"""Rows of a test as a loaded file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rather.data.comparisons import Comparisons
from rather.data.load import load
from rows import jsonl


@pytest.fixture
def given(tmp_path: Path) -> Callable[..., Comparisons]:
    """``given(*rows, **options)``: what ``load`` makes of a JSONL file of these rows."""

    def write_and_load(*rows: Any, **options: Any) -> Comparisons:
        return load(jsonl(tmp_path / "rows.jsonl", *rows), **options)

    return write_and_load
