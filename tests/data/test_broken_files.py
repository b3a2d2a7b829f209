"""Files that are damaged as a whole, or from some place on."""

from __future__ import annotations

import gzip
import io
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from rather.data.load import load
from rather.errors import UserError

ROWS = [{"prompt": f"p{i} {os.urandom(200).hex()}", "chosen": "a", "rejected": "b"} for i in range(200)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def parquet() -> bytes:
    sink = io.BytesIO()
    pa.parquet.write_table(pa.Table.from_pylist(ROWS), sink)
    return sink.getvalue()


def zstd(data: bytes) -> bytes:
    return pa.Codec("zstd").compress(data).to_pybytes()


CSV = b"prompt,chosen,rejected\np,a,b\n"
WHOLE: dict[str, tuple[str, bytes, str]] = {
    "empty": ("x.jsonl", b"", "the file is empty"),
    "blank": ("x.jsonl", b"\n \n", "holds no row"),
    "empty list": ("x.json", b"[]", "holds no row"),
    "header alone": ("x.csv", b"prompt,chosen,rejected\n", "holds no row"),
    "packed nothing": ("x.jsonl.gz", gzip.compress(b""), "holds no row"),
    "unknown kind": ("x.xlsx", b"PK", "unknown kind of file"),
    "no suffix": ("rows", LINES, "unknown kind of file"),
    "a number": ("x.json", b"3", "holds a int"),
    "cut JSON": ("x.json", json.dumps(ROWS).encode()[:-5], "not valid JSON"),
    "deep JSON": ("x.json", b"[" * 100_000, "nested too deeply"),
    "JSON with endless digits": ("x.json", b"[" + b"9" * 5000 + b"]", "digits"),
    "JSON in Latin-1": ("x.json", '[{"prompt": "ü"}]'.encode("latin-1"), "byte 14 of the file is not UTF-8"),
    "UTF-16": ("x.jsonl", LINES.decode().encode("utf-16"), "no row can be used"),
    "column named twice": ("x.csv", b"prompt,chosen,chosen\np,a,b\n", "the header names 'chosen' twice"),
    "semicolons": ("x.csv", b"prompt;chosen;rejected\np;a;b\n", "no known format"),
    "gz cut off": ("x.jsonl.gz", gzip.compress(LINES)[:-2000], "cannot be read to its end"),
    "gz overwritten": ("x.jsonl.gz", gzip.compress(LINES)[:500] + b"\xff" * 500, "cannot be read to its end"),
    "zst cut off": ("x.jsonl.zst", zstd(LINES)[:-2000], "cannot be read to its end"),
    "zst overwritten": ("x.jsonl.zst", zstd(LINES)[:20] + b"\xff" * 500, "cannot be read to its end"),
    "Parquet cut off": ("x.parquet", parquet()[:-100], "not a readable .parquet file"),
    "Parquet in name alone": ("x.parquet", LINES, "not a readable .parquet file"),
    "Parquet overwritten": ("x.parquet", parquet()[:50] + b"\xff" * 2000 + parquet()[2050:], ".parquet file"),
    "Parquet packed and cut off": ("x.parquet.gz", gzip.compress(parquet())[:-900], "cannot be read to its end"),
    "Arrow in name alone": ("x.arrow", LINES, "not a readable .arrow file"),
}


@pytest.mark.parametrize("name", WHOLE)
def test_file_is_refused_by_name(name: str, tmp_path: Path) -> None:
    file, content, says = WHOLE[name]
    (tmp_path / file).write_bytes(content)
    with pytest.raises(UserError) as caught:
        load(tmp_path / file)
    assert says in caught.value.what
    assert str(caught.value.where).startswith(str(tmp_path / file))
    assert caught.value.fix


CELLS: dict[str, tuple[bytes, str, int, str]] = {
    "a field short": (CSV + b"q,a\nr,a,b\n", "ragged-row", 3, "2 fields where the header names 3"),
    "a field too many": (CSV + b"q,a,b,c\nr,a,b\n", "ragged-row", 3, "4 fields"),
    "an empty cell": (CSV + b"q,,b\nr,a,b\n", "missing-field", 3, "chosen is missing"),
    "Latin-1": (CSV + "ü,a,b\nr,a,b\n".encode("latin-1"), "not-utf8", 3, "UTF-8"),
    "after a cell of two lines": (CSV + b'"two\nlines",a,b\nq,,b\n', "missing-field", 5, "chosen"),
    "a bare quote": (CSV + b'"q" x,a,b\n', "not-csv", 3, "not valid CSV"),
    "an open quote": (CSV + b'q,a,"b\nr,a,b\n', "not-csv", 3, "not valid CSV"),
}


@pytest.mark.parametrize("name", CELLS)
def test_rows_of_a_table_of_text(name: str, tmp_path: Path) -> None:
    content, code, row, says = CELLS[name]
    path = tmp_path / "x.csv"
    path.write_bytes(content)
    found = load(path)
    assert [(refusal.code, str(refusal.source)) for refusal in found.refused] == [(code, f"{path}:{row}")]
    assert says in found.refused[0].reason
    assert found[0].prompt == "p"
    assert len(found) == (1 if code == "not-csv" else 2)
    with pytest.raises(UserError, match=f"x.csv:{row}: "):
        load(path, strict=True)


def test_rows_of_parquet(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pa.parquet.write_table(pa.Table.from_pylist([ROWS[0], ROWS[1] | {"chosen": None}, ROWS[2]]), path)
    found = load(path)
    assert [(refusal.code, str(refusal.source)) for refusal in found.refused] == [("missing-field", f"{path}:2")]
    assert len(found) == 2


def test_folder_keeps_the_good_files_rows_apart(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"prompt": "p", "chosen": "a", "rejected": "b"}\n{"prompt": "p"}\n')
    (tmp_path / "b.jsonl").write_text('{"prompt": "p", "completion": "a"}\n[]\n')
    found = load(tmp_path)
    assert len(found) == 2
    assert [str(refusal.source) for refusal in found.refused] == [f"{tmp_path}/a.jsonl:2", f"{tmp_path}/b.jsonl:2"]


def test_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(LINES)
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(UserError, match=r"x\.jsonl"):
        load(path)
