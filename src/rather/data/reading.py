"""Rows out of files: one generator per kind of file, each row with its line or row number.

A row that cannot even be parsed comes out as a ``Refused`` in place of a mapping, so that one broken line never hides the
good ones behind it.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from rather.data.refusal import Refused
from rather.errors import UserError

Row = tuple[int, Mapping[str, Any] | Refused]

TEXT = {".jsonl", ".ndjson", ".json", ".csv", ".tsv"}
TABLES = {".parquet", ".arrow", ".feather"}
PACKED = {".gz", ".zst"}


def kind_of(path: Path) -> str:
    """The suffix that says what a file holds, without the compression's."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    while suffixes and suffixes[-1] in PACKED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def can_read(path: Path) -> bool:
    return kind_of(path) in TEXT | TABLES


def read_rows(path: Path) -> Iterator[Row]:
    """Rows of one file, numbered from 1 (lines of JSONL; rows of anything else).

    Raises:
        UserError: the kind of file is unknown, or the file as a whole cannot be read.
    """
    kind = kind_of(path)
    if kind in TABLES:
        return _table_rows(path)
    readers = {".jsonl": _json_lines, ".ndjson": _json_lines, ".json": _json_document, ".csv": _csv, ".tsv": _csv}
    if kind not in readers:
        known = " ".join(sorted(TEXT | TABLES))
        raise UserError("unknown kind of file", where=str(path), fix=f"known: {known}, each also .gz or .zst")
    return readers[kind](path)


def open_binary(path: Path) -> BinaryIO:
    """The file's bytes, decompressed."""
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rb")  # type: ignore[return-value]
    if path.suffix.lower() == ".zst":
        import zstandard

        return zstandard.open(path, "rb")  # type: ignore[return-value]
    return path.open("rb")


def _broken(path: Path, error: Exception) -> UserError:
    return UserError(f"cannot be read to its end: {error}", where=str(path), fix="the file is damaged; fetch it again")


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with open_binary(path) as file:
            yield from file
    except (OSError, EOFError) as error:
        raise _broken(path, error) from None
    except Exception as error:
        if type(error).__name__ != "ZstdError":
            raise
        raise _broken(path, error) from None


def _as_mapping(value: Any) -> Mapping[str, Any] | Refused:
    if isinstance(value, dict):
        return value
    return Refused("not-an-object", f"a row has to be an object with named fields, this is a {type(value).__name__}")


def _json_lines(path: Path) -> Iterator[Row]:
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            yield (
                number,
                Refused("not-utf8", f"byte {error.start + 1} of the line is not UTF-8; save the file as UTF-8"),
            )
            continue
        try:
            yield number, _as_mapping(json.loads(text))
        except json.JSONDecodeError as error:
            yield number, Refused("not-json", f"not valid JSON at column {error.colno}: {error.msg}")
        except RecursionError:
            yield number, Refused("not-json", "nested too deeply to be read")


def _whole_text(path: Path) -> str:
    try:
        return b"".join(_lines(path)).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        what = f"byte {error.start + 1} is not UTF-8"
        raise UserError(what, where=str(path), fix="save the file as UTF-8") from None


def _json_document(path: Path) -> Iterator[Row]:
    text = _whole_text(path)
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            # Many tools write one object a line under the name .json.
            yield from _json_lines(path)
            return
        fix = "write a list of objects, or one object a line as .jsonl"
        raise UserError(f"not valid JSON: {error.msg}", where=f"{path}:{error.lineno}", fix=fix) from None
    if isinstance(document, dict):
        lists = [value for value in document.values() if isinstance(value, list)]
        document = (
            document["data"] if isinstance(document.get("data"), list) else lists[0] if len(lists) == 1 else [document]
        )
    if not isinstance(document, list):
        raise UserError(f"holds a {type(document).__name__}", where=str(path), fix="write a list of objects")
    for number, value in enumerate(document, 1):
        yield number, _as_mapping(value)


def _csv(path: Path) -> Iterator[Row]:
    csv.field_size_limit(2**30)
    text = io.StringIO(_whole_text(path), newline="")
    reader = csv.DictReader(text, delimiter="\t" if kind_of(path) == ".tsv" else ",", strict=True)
    number = 0
    try:
        for number, row in enumerate(reader, 1):
            if None in row or None in row.values():
                have = len([v for k, v in row.items() if k is not None and v is not None]) + len(row.get(None) or [])
                yield (
                    number,
                    Refused("ragged-row", f"{have} fields where the header names {len(reader.fieldnames or [])}"),
                )
                continue
            yield number, {key: _cell(value) for key, value in row.items()}
    except csv.Error as error:
        yield number + 1, Refused("not-csv", f"not valid CSV: {error}")


def _cell(value: str) -> Any:
    """A cell that holds a JSON list or object (messages, responses, scores) is read as such; any other is text."""
    if value[:1] in "[{":
        try:
            return json.loads(value)
        except json.JSONDecodeError:
            return value
    return value if value != "" else None


def _table_rows(path: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.feather
    import pyarrow.parquet

    try:
        if path.suffix.lower() in PACKED:
            with open_binary(path) as file:
                source: Any = pa.BufferReader(file.read())
        else:
            source = pa.memory_map(str(path))
        if kind_of(path) == ".parquet":
            batches: Any = pyarrow.parquet.ParquetFile(source).iter_batches(batch_size=1024)
        else:
            try:
                batches = pyarrow.feather.read_table(source).to_batches(max_chunksize=1024)
            except pa.ArrowInvalid:
                source.seek(0)
                batches = pa.ipc.open_stream(source)
        number = 0
        for batch in batches:
            for row in batch.to_pylist():
                number += 1
                yield number, row
    except (pa.ArrowException, OSError, EOFError) as error:
        message = str(error).splitlines()[0]
        raise UserError(
            f"not a readable {kind_of(path)} file: {message}", where=str(path), fix="fetch or write it again"
        ) from None
