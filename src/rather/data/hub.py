"""Data sets of the ``datasets`` library: saved to disk, or on the hub."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rather.data.reading import Row
from rather.errors import UserError, nearest


def is_saved(path: Path) -> bool:
    """Whether a folder was written by ``save_to_disk``."""
    return (path / "state.json").is_file() or (path / "dataset_dict.json").is_file()


def saved_rows(name: str, split: str | None) -> Iterator[Row]:
    """Rows of a folder written by ``save_to_disk``, memory-mapped.

    Raises:
        UserError: it cannot be read, or has no such split.
    """
    import datasets

    try:
        found = datasets.load_from_disk(str(Path(name).expanduser()))
    except (OSError, ValueError, KeyError) as error:
        what = f"looks like a saved data set but cannot be read: {_line(error)}"
        raise UserError(what, where=name, fix="write it again with save_to_disk") from None
    return _rows(found, name, split)


def hub_rows(name: str, split: str | None) -> Iterator[Row]:
    """Rows of a data set on the hub; ``owner/name`` or ``owner/name:config``.

    Raises:
        UserError: there is neither a file nor a data set of that name, the hub cannot be reached, or there is no such
            split.
    """
    import datasets

    path, _, config = name.partition(":")
    try:
        found = datasets.load_dataset(path, config or None)
    except Exception as error:  # the hub's client raises errors of many libraries, and they all end here
        fix = f"give a file or folder, or check the name and the network ({_line(error)})"
        raise UserError("neither a file here nor a data set that the hub gives", where=name, fix=fix) from error
    return _rows(found, name, split)


def _rows(found: Any, name: str, split: str | None) -> Iterator[Row]:
    import datasets

    if isinstance(found, dict):
        chosen = split or ("train" if "train" in found else next(iter(found)) if len(found) == 1 else None)
        if chosen is None:
            raise UserError(
                f"has the splits {', '.join(found)}", where=name, fix="say which: split=NAME or --split NAME"
            )
        if chosen not in found:
            raise UserError(f"has no split {chosen!r}", where=name, fix=nearest(chosen, found))
        found = found[chosen]
    elif split is not None and found.split is not None and str(found.split) != split:
        raise UserError(f"is the split {found.split}, not {split!r}", where=name)
    for column, feature in (found.features or {}).items():
        if isinstance(feature, datasets.Image | datasets.Audio):  # their bytes, not decoded pixels
            found = found.cast_column(column, type(feature)(decode=False))
    return iter(enumerate(found.with_format(None), 1))


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:200]
