"""Rows out of files: one generator per kind of file, each row with its line or row number.

A row that cannot even be parsed comes out as a ``Refused`` in place of a mapping, so that one broken line never hides
the good ones behind it.
"""

from __future__ import annotations

import ast
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
    """Rows of one file, numbered from 1 (lines of JSONL and CSV; rows of anything else).

    Raises:
        UserError: the kind of file is unknown, or the file as a whole cannot be read.
    """
    kind = kind_of(path)
    if kind in TABLES:
        return _table_rows(path)
    if kind in (".jsonl", ".ndjson") and next(_lines(path), b"").lstrip(b"\xef\xbb\xbf \t").startswith(b"["):
        return _json_document(path)  # a list of objects under the wrong name
    readers = {".jsonl": _json_lines, ".ndjson": _json_lines, ".json": _json_document, ".csv": _csv, ".tsv": _csv}
    if kind not in readers:
        known = " ".join(sorted(TEXT | TABLES))
        raise UserError("unknown kind of file", where=str(path), fix=f"known: {known}, each also .gz or .zst")
    return readers[kind](path)


def packing(path: Path) -> str:
    """``gz``, ``zst`` or nothing, by the file's first bytes: a suffix may be missing or wrong."""
    with path.open("rb") as file:
        start = file.read(4)
    return "gz" if start[:2] == b"\x1f\x8b" else "zst" if start == b"\x28\xb5\x2f\xfd" else ""


def open_binary(path: Path) -> BinaryIO:
    """The file's bytes, decompressed."""
    packed = packing(path)
    if packed == "gz":
        return gzip.open(path, "rb")  # type: ignore[return-value]
    if packed == "zst":
        import pyarrow as pa

        # Unlike zstandard's own reader, this one reads all frames of a file and notices that one breaks off.
        return io.BufferedReader(pa.input_stream(str(path), compression="zstd"))  # type: ignore[arg-type]
    return path.open("rb")


def _broken(path: Path, error: Exception) -> UserError:
    return UserError(f"cannot be read to its end: {error}", where=str(path), fix="the file is damaged; fetch it again")


def _lines(path: Path) -> Iterator[bytes]:
    import zlib

    try:
        with open_binary(path) as file:
            yield from file
    except (OSError, EOFError, zlib.error) as error:
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
        except ValueError as error:  # a whole number of thousands of digits
            yield number, Refused("not-json", _sentence(error))


def _whole_text(path: Path) -> str:
    data = b"".join(_lines(path))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        what = f"byte {error.start + 1} of the file is not UTF-8"
        raise UserError(what, where=f"{path}:{line}", fix="save the file as UTF-8") from None


def _json_document(path: Path) -> Iterator[Row]:
    text, fix = _whole_text(path), "write a list of objects, or one object a line as .jsonl"
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        broken = isinstance(error, json.JSONDecodeError)
        if kind_of(path) != ".json" or (broken and error.msg == "Extra data"):
            # Many tools write one object a line under the name .json.
            yield from _json_lines(path)
            return
        if broken:
            raise UserError(f"not valid JSON: {error.msg}", where=f"{path}:{error.lineno}", fix=fix) from None
        deep = isinstance(error, RecursionError)
        what = "nested too deeply to be read" if deep else _sentence(error)
        raise UserError(what, where=str(path), fix=fix) from None
    if isinstance(document, dict):
        document = _inner_list(document)
    if not isinstance(document, list):
        raise UserError(f"holds a {type(document).__name__}", where=str(path), fix="write a list of objects")
    for number, value in enumerate(document, 1):
        yield number, _as_mapping(value)


def _sentence(error: Exception) -> str:
    """What an error says, without Python's advice."""
    return f"cannot be read: {str(error).partition(';')[0]}"


def _inner_list(document: dict[str, Any]) -> list[Any]:
    """The rows inside an object: ``data``, or its one field if that is a list of objects; else itself."""
    if isinstance(document.get("data"), list):
        return document["data"]
    lists = [value for value in document.values() if isinstance(value, list) and value]
    rows = [
        value
        for value in lists
        if all(isinstance(row, dict) and "role" not in row and "from" not in row for row in value)
    ]
    return rows[0] if len(rows) == 1 and len(document) == 1 else [document]


def _text_lines(path: Path) -> Iterator[str]:
    """Lines of text; bytes that are not UTF-8 become lone surrogates, so that the row they are in is refused alone."""
    for number, line in enumerate(_lines(path)):
        yield line.decode("utf-8-sig" if number == 0 else "utf-8", errors="surrogateescape")


def _csv(path: Path) -> Iterator[Row]:
    csv.field_size_limit(2**31 - 1)
    reader = csv.reader(_text_lines(path), delimiter="\t" if kind_of(path) == ".tsv" else ",", strict=True)
    header: list[str] | None = None
    line = 1
    try:
        for values in reader:
            start, line = line, reader.line_num + 1
            if header is None:
                header = _header(values, path)
            elif values:
                yield start, _csv_row(header, values)
    except csv.Error as error:
        yield line, Refused("not-csv", f"not valid CSV: {error}; the rows from here on cannot be read")


def _header(names: list[str], path: Path) -> list[str]:
    names = [name.strip() for name in names]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"the header names {twice[0]!r} twice", where=f"{path}:1", fix="give each column its own name")
    return names


def _csv_row(header: list[str], values: list[str]) -> dict[str, Any] | Refused:
    if len(values) != len(header):
        return Refused("ragged-row", f"{len(values)} fields where the header names {len(header)}")
    if any("\udc80" <= character <= "\udcff" for value in values if not value.isascii() for character in value):
        return Refused("not-utf8", "a field is not UTF-8; save the file as UTF-8")
    return {name: _cell(name, value) for name, value in zip(header, values, strict=True)}


_LISTS = frozenset(
    [
        "responses",
        "completions",
        "answers",
        "generations",
        "candidates",
        "negatives",
        "history",
        "scores",
        "ratings",
        "rewards",
        "ranks",
        "ranking",
        "labels",
    ]
)


def _literal(value: str) -> Any:
    """A list or an object as JSON, or as Python prints one (tables are often saved so); ``None`` for anything else."""
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(value)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return None


def _cell(name: str, value: str) -> Any:
    """A cell as a value: a list where one is due or messages are written so, ``None`` where empty, else text."""
    if value[:1] in ("[", "{"):
        read = _literal(value)
        # A text may well be valid JSON; only objects with a role are surely messages.
        turns = [read] if isinstance(read, dict) else read
        messages = bool(turns) and all(isinstance(t, dict) and ("role" in t or "from" in t) for t in turns)
        texts = name == "rejected" and bool(turns) and all(isinstance(t, str) for t in turns)
        return read if messages or texts or name in _LISTS else value
    return value if value != "" else None


def _table_rows(path: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.feather
    import pyarrow.parquet

    try:
        if packing(path):
            source: Any = pa.BufferReader(b"".join(_lines(path)))
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
