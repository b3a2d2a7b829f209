"""From a name to comparisons: files, folders, saved data sets, the hub, worlds."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

from rather.data import formats
from rather.data.reading import Row, can_read, read_rows
from rather.data.refusal import Refusal, Refused
from rather.data.store import Store
from rather.data.types import Comparison, Source
from rather.data.validate import Census
from rather.errors import UserError

IN_MEMORY = 50_000
"""Comparisons kept as objects; more are read from a memory-mapped file one at a time."""


class Comparisons(Sequence[Comparison]):
    """The usable comparisons of a source, what was refused, and what was counted on the way.

    Attributes:
        refused: rows left out, in the order of the file.
        census: counts, contradictions and lengths of the good rows.
        fingerprint: hash of the content of all good rows.
    """

    def __init__(self, items: Sequence[Comparison], refused: list[Refusal], census: Census, fingerprint: str) -> None:
        self._items, self.refused, self.census, self.fingerprint = items, refused, census, fingerprint

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, index: int) -> Comparison: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Comparison]: ...
    def __getitem__(self, index: int | slice) -> Comparison | Sequence[Comparison]:
        return self._items[index]

    @property
    def summary(self) -> dict[str, Any]:
        """Counts as plain values: those of the census, and refusals by code with the first places."""
        by_code: dict[str, dict[str, Any]] = {}
        for refusal in self.refused:
            entry = by_code.setdefault(refusal.code, {"count": 0, "reason": refusal.reason, "first": []})
            entry["count"] += 1
            if len(entry["first"]) < 3:
                entry["first"].append(str(refusal.source))
        return {**self.census.summary(), "refused": len(self.refused), "refused_by": by_code}


def load(
    source: str | Path, *, split: str | None = None, strict: bool = False, limit: int | None = None
) -> Comparisons:
    """Read, normalise and validate preference data.

    Args:
        source: a file (JSONL, JSON, CSV, TSV, Parquet, Arrow; also .gz, .zst), a folder of such files or one written by
            ``datasets.save_to_disk``, a data set's name on the hub, or ``world:NAME``.
        split: of a saved or hub data set; ``train`` when there are several and none is asked for.
        strict: raise at the first row that cannot be used.
        limit: stop after so many usable rows.

    Raises:
        UserError: nothing is there, no known format, or (``strict``) a row that cannot be used.
    """
    name = str(source)
    if name.startswith("world:"):
        from rather.worlds.catalog import load_world

        return _collect(_ready(load_world(name)), name, strict, limit)
    return _collect(_parsed(_rows(name, split)), name, strict, limit)


Item = tuple[Source, "Comparison | Refused", str]


def _ready(comparisons: Iterable[Comparison]) -> Iterator[Item]:
    for number, comparison in enumerate(comparisons, 1):
        yield comparison.source or Source("world", number), comparison, "world"


def _parsed(rows: Iterable[tuple[str, Row]]) -> Iterator[Item]:
    """Rows to comparisons; the format is that of the first row of each file, and of any row that has it not."""
    form: formats.Format | None = None
    for path, (number, row) in rows:
        source = Source(path, number)
        if isinstance(row, Refused):
            yield source, row, ""
            continue
        try:
            if form is None:
                form = formats.detect(row, str(source))
            elif not form.fits(row.keys(), row):
                form = _other_format(form, row)
            yield source, formats.read(form, row, source), form.name
        except Refused as refusal:
            yield source, refusal, ""


def _other_format(usual: formats.Format, row: Mapping[str, Any]) -> formats.Format:
    """The format of a row unlike those before it.

    Raises:
        Refused: none; names the columns that are missing.
    """
    try:
        return formats.detect(row, "")
    except UserError:
        missing = [entry for entry in usual.columns if not any(name in row for name in entry.split("|"))]
        what = f"{', '.join(missing)} missing" if missing else "the columns do not hold what they held before"
        raise Refused("missing-field", f"{what}; the rows before are in the format '{usual.name}'") from None


def _collect(items: Iterable[Item], name: str, strict: bool, limit: int | None) -> Comparisons:
    store, refused, census = Store(IN_MEMORY), list[Refusal](), Census()
    hasher = hashlib.sha256()

    def refuse(source: Source, code: str, reason: str) -> None:
        if strict:
            raise UserError(reason, where=str(source), fix="without --strict such rows are left out and counted")
        refused.append(Refusal(source, code, reason))

    for source, item, form in _progress(items, name):
        if isinstance(item, Refused):
            refuse(source, item.code, item.reason)
            continue
        before = census.earlier(item)
        if before is not False:
            refuse(source, "duplicate", f"the same comparison stands at {before}")
            continue
        taken = census.id_taken(item)
        if taken is not False:
            refuse(source, "id-taken", f"the id {item.id!r} stands for another comparison at {taken}")
            continue
        census.add(item, form)
        hasher.update(f"{item.id}\0{formats.content_id(formats.Parsed(item.prompt, item.responses))}\n".encode())
        store.append(item)
        if limit is not None and len(store) >= limit:
            break
    store.finish()
    if not len(store):
        first = f"\n  first: {refused[0]}" if refused else ""
        what = f"no usable row; {len(refused)} were refused" if refused else "is empty"
        raise UserError(
            what, where=name, fix=f"`rather check {name}` names each row and why{first}" if refused else None
        )
    return Comparisons(store, refused, census, hasher.hexdigest()[:16])


def _progress(items: Iterable[Item], name: str) -> Iterator[Item]:
    """A count on the terminal once a read takes long."""
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn

    columns = (SpinnerColumn(), TextColumn("reading {task.description}: {task.completed:,} rows"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(name)
        for count, item in enumerate(items, 1):
            if count % 500 == 0:
                progress.update(task, completed=count)
            yield item


def _rows(name: str, split: str | None) -> Iterator[tuple[str, Row]]:
    path = Path(name).expanduser()
    if path.is_dir():
        if (path / "dataset_info.json").exists() or (path / "dataset_dict.json").exists():
            return _dataset_rows(name, lambda datasets: datasets.load_from_disk(str(path)), split)
        files = sorted(file for file in path.rglob("*") if file.is_file() and can_read(file))
        if not files:
            raise UserError(
                "the folder holds no data file",
                where=name,
                fix="give a file, or a folder with .jsonl or .parquet files",
            )
        return ((str(file), row) for file in files for row in read_rows(file))
    if path.is_file():
        if path.stat().st_size == 0:
            raise UserError("the file is empty", where=name)
        return ((name, row) for row in read_rows(path))
    if path.suffix or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise UserError("no such file or folder", where=name, fix=_similar(path))
    return _dataset_rows(name, lambda datasets: datasets.load_dataset(name), split)


def _similar(path: Path) -> str:
    import difflib

    folder = path.parent if str(path.parent) else Path(".")
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    close = difflib.get_close_matches(path.name, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean {folder / close[0]}?"
    return (
        "give a file, a folder or a data set's name"
        if folder.is_dir()
        else f"the folder {folder} does not exist either"
    )


def _dataset_rows(name: str, open_it: Callable[[Any], Any], split: str | None) -> Iterator[tuple[str, Row]]:
    import datasets

    try:
        found = open_it(datasets)
    except Exception as error:
        # The hub client raises many kinds of errors (connection, missing, gated); the user's way out is the same.
        what = f"neither a file here nor a data set that can be read from the hub ({type(error).__name__})"
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else "no further reason"
        raise UserError(
            what, where=name, fix=f"give a file or folder, or check the name and the network: {reason}"
        ) from None
    if isinstance(found, dict):
        chosen = split or ("train" if "train" in found else next(iter(found)))
        if chosen not in found:
            raise UserError(f"has no split {chosen!r}", where=name, fix=f"splits: {', '.join(found)}")
        found = found[chosen]
    return ((name, (number, row)) for number, row in enumerate(found, 1))
