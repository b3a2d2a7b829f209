"""From a name to comparisons: files, folders, saved data sets, the hub, worlds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path

from rather.data import formats
from rather.data.comparisons import Comparisons
from rather.data.reading import Row
from rather.data.refusal import Refusal, Refused
from rather.data.schemes import scheme_of
from rather.data.sources import Opened, open_source
from rather.data.store import Store
from rather.data.types import Comparison, Source
from rather.data.validate import Census
from rather.errors import UserError
from rather.progress import progress_bar

IN_MEMORY = 50_000
"""Comparisons kept as objects; more are read from a memory-mapped file one at a time."""

_OFTEN = 500  # rows between marks of progress
_PEEK = 100  # rows of a file from which its format is told

Item = tuple[Source, "Comparison | Refused", str, tuple[str, ...]]
"""Where, what, the format's name, notes."""


def load(
    source: str | Path,
    *,
    split: str | None = None,
    strict: bool = False,
    limit: int | None = None,
    edges: formats.EdgeRule = "all",
) -> Comparisons:
    """Read, normalise and validate preference data.

    Args:
        source: a file (JSONL, JSON, CSV, TSV, Parquet, Arrow; also compressed by gzip or zstandard), a folder of such
            files or one written by ``datasets.save_to_disk``, a data set's name on the hub (``owner/name`` or
            ``owner/name:config``), or ``world:NAME``.
        split: of a saved or hub data set, or of a folder with files named by split; ``train`` when there are several
            and none is asked for.
        strict: raise at the first row that cannot be used; duplicates are such rows.
        limit: stop after so many usable rows.
        edges: of rankings, ``all`` strictly ordered pairs or only those that the best is part of.

    Raises:
        UserError: nothing is there, no known format, no usable row, or (``strict``) a row that cannot be used.
    """
    if limit is not None and limit < 1:
        raise UserError(f"limit is {limit}", where="--limit", fix="give a whole number from 1")
    name = str(source)
    if (loader := scheme_of(name)) is not None:
        return _collect(_given(loader(name), name, edges), name, strict, limit)
    opened = open_source(name, split)
    return _collect(chain.from_iterable(_parsed(part, edges) for part in opened), name, strict, limit)


def _given(rows: Iterable[object], name: str, rule: formats.EdgeRule) -> Iterator[Item]:
    """What a scheme gives: comparisons as they are, rows as those of a file."""
    rows = iter(rows)
    head = list(islice(rows, 1))
    if head and isinstance(head[0], Comparison):
        for number, comparison in enumerate(chain(head, rows), 1):
            assert isinstance(comparison, Comparison)
            yield comparison.source or Source(name, number), comparison, "world", ()
    else:
        numbered = ((i, row) for i, row in enumerate(chain(head, rows), 1) if isinstance(row, dict))
        yield from _parsed(Opened(name, numbered), rule)


def _parsed(opened: Opened, rule: formats.EdgeRule) -> Iterator[Item]:
    """Comparisons of one file, in the format that most of its first rows have."""
    rows: Iterator[Row] = iter(opened.rows)
    head = list(islice(rows, _PEEK))
    while head and all(isinstance(row, Refused) for _, row in head):
        for number, row in head:
            yield Source(opened.path, number), row, "", ()  # type: ignore[misc]  # all are refused
        head = list(islice(rows, _PEEK))
    if not head:
        return
    expected = formats.usual([row for _, row in head if not isinstance(row, Refused)], opened.path)
    for number, row in chain(head, rows):
        source = Source(opened.path, number)
        try:
            if isinstance(row, Refused):
                raise row
            form = formats.for_row(expected, row)
            comparison, notes = formats.read(form, row, source, rule)
            yield source, comparison, form.name, tuple(notes)
        except Refused as refusal:
            yield source, refusal, "", ()


def _collect(items: Iterable[Item], name: str, strict: bool, limit: int | None) -> Comparisons:
    store, refused, census = Store(IN_MEMORY), list[Refusal](), Census()
    with progress_bar(f"reading {name}", None) as advance:
        for count, (source, item, form, notes) in enumerate(items, 1):
            if count % _OFTEN == 0:
                advance(_OFTEN)
            refusal = item if isinstance(item, Refused) else census.refuses(item)
            if refusal is not None:
                if strict:
                    fix = "mend the row; without --strict such rows are left out and counted"
                    raise UserError(refusal.args[0], where=str(source), fix=fix)
                refused.append(Refusal(source, refusal.code, refusal.args[0]))
            elif isinstance(item, Comparison):
                census.add(item, form, notes)
                store.append(item)
                if len(store) == limit:
                    break
    store.finish()
    if not len(store):
        raise _unusable(name, refused)
    return Comparisons(store, name, refused, census)


def _unusable(name: str, refused: list[Refusal]) -> UserError:
    if not refused:
        return UserError("holds no row", where=name, fix="the file is empty; write one row a line")
    first = dict.fromkeys(refusal.code for refusal in refused)
    shown = [next(refusal for refusal in refused if refusal.code == code) for code in list(first)[:3]]
    fix = "\n  ".join(str(refusal) for refusal in shown)
    return UserError(
        f"no row can be used; {len(refused)} were refused", where=name, fix=f"the first of each kind:\n  {fix}"
    )
