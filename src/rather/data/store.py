"""Comparisons that do not fit into memory: written once to a memory-mapped Arrow file, read back one at a time."""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, overload

from rather.data.types import Auxiliary, Comparison, Edge, Source
from rather.errors import UserError
from rather.paths import cache_dir

_CHUNK = 2000


def to_json(comparison: Comparison) -> str:
    """A comparison as one line of JSON; bytes are kept in base64."""
    return json.dumps(asdict(comparison), default=_encode)  # ASCII, since Arrow's text cannot hold surrogates


def _encode(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"__base64__": base64.b64encode(value).decode()}
    return str(value)


def _decode(value: dict[str, Any]) -> Any:
    return base64.b64decode(value["__base64__"]) if set(value) == {"__base64__"} else value


def from_json(text: str) -> Comparison:
    value = json.loads(text, object_hook=_decode)
    source = value["source"]
    return Comparison(
        id=value["id"],
        prompt=_tuple(value["prompt"]),
        responses=tuple(_tuple(response) for response in value["responses"]),
        edges=tuple(Edge(**edge) for edge in value["edges"]),
        desirable=tuple(value["desirable"]),
        scores=tuple(value["scores"]),
        extras=value["extras"],
        source=Source(**source) if source else None,
        auxiliary=tuple(
            Auxiliary(**{**item, "response": _tuple(item["response"]), "prompt": _tuple(item["prompt"])})
            for item in value["auxiliary"]
        ),
    )


def _spool_folder() -> Path:
    """A folder on disk: the system's temporary folder may be memory."""
    folder = cache_dir() / "data"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fix = "set RATHER_CACHE to a writable folder"
        raise UserError(f"the cache cannot be written: {error.strerror}", where=str(folder), fix=fix) from None
    return folder


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


class Store(Sequence[Comparison]):
    """A growing list of comparisons that moves to disk when it is long.

    Args:
        in_memory: how many are kept as objects before all are written to a temporary file, which is deleted with the
            store.
    """

    def __init__(self, in_memory: int) -> None:
        self._in_memory = in_memory
        self._items: list[Comparison] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._column: Any = None
        self._writer: Any = None
        self._written = 0

    def append(self, comparison: Comparison) -> None:
        self._items.append(comparison)
        if len(self._items) > (self._in_memory if self._writer is None else _CHUNK):
            self._spill()

    def _spill(self) -> None:
        import pyarrow as pa

        schema = pa.schema([("row", pa.large_string())])
        if self._writer is None:
            self._folder = tempfile.TemporaryDirectory(prefix="rows-", dir=_spool_folder())
            self._writer = pa.ipc.new_file(str(Path(self._folder.name) / "rows.arrow"), schema)
        for start in range(0, len(self._items), _CHUNK):
            part = [to_json(item) for item in self._items[start : start + _CHUNK]]
            self._writer.write_batch(pa.record_batch([pa.array(part, pa.large_string())], schema=schema))
        self._written += len(self._items)
        self._items = []

    def finish(self) -> None:
        """No more will be added; what was spilled is mapped for reading."""
        if self._writer is None or self._folder is None:
            return
        import pyarrow as pa

        self._spill()
        self._writer.close()
        mapped = pa.memory_map(str(Path(self._folder.name) / "rows.arrow"))
        self._column = pa.ipc.open_file(mapped).read_all().column("row")

    @property
    def on_disk(self) -> bool:
        return self._writer is not None

    def __len__(self) -> int:
        return self._written + len(self._items)

    @overload
    def __getitem__(self, index: int) -> Comparison: ...
    @overload
    def __getitem__(self, index: slice) -> list[Comparison]: ...
    def __getitem__(self, index: int | slice) -> Comparison | list[Comparison]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if self._column is None:
            return self._items[index]
        return from_json(self._column[range(len(self))[index]].as_py())
