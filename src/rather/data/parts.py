"""Long work in parts: each part's result is kept beside the output, so the same command goes on where it was stopped."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rather.data.identity import canonical
from rather.errors import UserError


class Parts:
    """A folder of results, one JSON file for each part.

    Args:
        out: the file that the work is for; the folder ``.OUT.parts`` stands beside it from the first part to ``clear``.
        settings: what all parts depend on (JSON values).

    Raises:
        UserError: nothing can be written there. Said now, so that a wrong name costs no work.
    """

    def __init__(self, out: Path, settings: Any) -> None:
        self.folder = out.with_name(f".{out.name}.parts")
        self.settings = settings
        reason = None if out.parent.is_dir() else "there is no such folder"
        if reason is None and not os.access(out.parent, os.W_OK):
            reason = "its folder is read-only"
        if reason:
            raise UserError(f"cannot be written: {reason}", where=str(out), fix="choose another --out")

    def get(self, name: str, given: Any, make: Callable[[], Any]) -> Any:
        """The result of a part: from its file, where that was made of the same ``given`` and settings, or of ``make``.

        Args:
            given: what this part depends on besides (JSON values).
        """
        kept = self._kept(name, given)
        if kept is not None:
            return kept["result"]
        result = make()
        part = {"key": self._key(given), "result": result}
        write_whole(self._path(name), json.dumps(part, ensure_ascii=False).encode())
        return result

    def has(self, name: str, given: Any) -> bool:
        """Whether ``get`` would find the result."""
        return self._kept(name, given) is not None

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _key(self, given: Any) -> str:
        return hashlib.sha256(canonical([self.settings, given])).hexdigest()

    def _kept(self, name: str, given: Any) -> dict[str, Any] | None:
        path = self._path(name)
        kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
        return kept if kept is not None and kept["key"] == self._key(given) else None

    def clear(self) -> None:
        """Remove the folder: the work is done and its result is elsewhere."""
        if self.folder.is_dir():
            for part in self.folder.glob("*.json"):
                part.unlink()
            self.folder.rmdir()


def write_whole(path: Path, content: bytes) -> None:
    """Write whole or not at all, whoever else writes the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_bytes(content)
    os.replace(partial, path)
