"""Every container of rows gives the same comparisons."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

from rather.data.load import load
from rather.data.types import Edge
from rather.errors import UserError

ROWS = [
    {"prompt": "Name a bird.", "chosen": 'A "grey" heron,\nof course', "rejected": "A whale", "margin": 1.5},
    {"prompt": "Grüße", "chosen": "Grüß Gott 🙂", "rejected": "no", "margin": 0.25},
]


def jsonl(rows: list[dict] = ROWS) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def separated(delimiter: str) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(ROWS[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(ROWS)
    return text.getvalue().encode()


def zstd(data: bytes) -> bytes:
    return pa.Codec("zstd").compress(data).to_pybytes()


def in_arrow(kind: str) -> bytes:
    table, sink = pa.Table.from_pylist(ROWS), io.BytesIO()
    if kind == "parquet":
        pa.parquet.write_table(table, sink)
    elif kind == "feather":
        pa.feather.write_feather(table, sink, compression="lz4")
    else:
        opened = pa.ipc.new_stream if kind == "stream" else pa.ipc.new_file
        with opened(sink, table.schema) as writer:
            writer.write_table(table)
    return sink.getvalue()


FILES = {
    "rows.jsonl": jsonl,
    "rows.ndjson": jsonl,
    "ROWS.JSONL": jsonl,
    "list.json": lambda: json.dumps(ROWS, indent=1).encode(),
    "wrapped.json": lambda: json.dumps({"version": 3, "data": ROWS}).encode(),
    "one-list.json": lambda: json.dumps({"examples": ROWS}).encode(),
    "lines.json": jsonl,
    "rows.csv": lambda: separated(","),
    "rows.tsv": lambda: separated("\t"),
    "rows.parquet": lambda: in_arrow("parquet"),
    "rows.feather": lambda: in_arrow("feather"),
    "file.arrow": lambda: in_arrow("file"),
    "stream.arrow": lambda: in_arrow("stream"),
    "bom.jsonl": lambda: b"\xef\xbb\xbf" + jsonl(),
    "bom.json": lambda: b"\xef\xbb\xbf" + json.dumps(ROWS).encode(),
    "bom.csv": lambda: b"\xef\xbb\xbf" + separated(","),
    "crlf.jsonl": lambda: jsonl().replace(b"\n", b"\r\n"),
    "blank-lines.jsonl": lambda: jsonl().replace(b"\n", b"\n\n  \n"),
    "no-last-newline.jsonl": lambda: jsonl().rstrip(),
}
PACKERS = {"": bytes, ".gz": gzip.compress, ".zst": zstd}


@pytest.mark.parametrize("packing", PACKERS)
@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_file_gives_the_same(name: str, packing: str, tmp_path: Path) -> None:
    path = tmp_path / (name + packing)
    path.write_bytes(PACKERS[packing](FILES[name]()))
    found = load(path)
    assert [(c.prompt, *c.responses) for c in found] == [(r["prompt"], r["chosen"], r["rejected"]) for r in ROWS]
    assert [c.edges for c in found] == [(Edge(0, 1, margin=1.5),), (Edge(0, 1, margin=0.25),)]
    assert not found.refused
    assert found.summary["format"] == "pair"
    assert {c.source.path for c in found if c.source} == {str(path)}


def test_zstd_of_many_frames(tmp_path: Path) -> None:
    path = tmp_path / "frames.jsonl.zst"
    path.write_bytes(b"".join(zstd(jsonl([row])) for row in ROWS))
    assert len(load(path)) == 2


def test_rows_are_numbered_by_line_in_text_and_by_row_elsewhere(tmp_path: Path) -> None:
    lines, cells, table = tmp_path / "a.jsonl", tmp_path / "a.csv", tmp_path / "a.parquet"
    lines.write_bytes(b"\n" + jsonl().replace(b"\n", b"\n\n"))
    cells.write_bytes(separated(","))  # whose first row holds a line break
    table.write_bytes(in_arrow("parquet"))
    assert [c.source.row for c in load(lines) if c.source] == [2, 4]
    assert [c.source.row for c in load(cells) if c.source] == [2, 4]
    assert [c.source.row for c in load(table) if c.source] == [1, 2]


def test_single_objects_in_json_are_rows(tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    for row in (
        {"prompt": "p", "chosen": "a", "rejected": ["b", "c"]},
        {
            "messages": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "a"}],
            "rejected_response": "b",
        },
    ):
        path.write_text(json.dumps(row))
        assert load(path)[0].responses[0] == "a"


def test_cells_of_csv_may_hold_lists(tmp_path: Path) -> None:
    path = tmp_path / "lists.csv"
    chosen = [{"role": "user", "content": "it's p"}, {"role": "assistant", "content": "a"}]
    rejected = [*chosen[:1], {"role": "assistant", "content": "b"}]
    for dump in (json.dumps, repr):
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerows([["chosen", "rejected"], [dump(chosen), dump(rejected)]])
        found = load(path)[0]
        assert found.prompt == tuple(chosen[:1])
        assert found.responses == ("a", "b")


def test_cells_that_only_look_like_lists_are_text(tmp_path: Path) -> None:
    path = tmp_path / "text.csv"
    path.write_text('prompt,chosen,rejected\n[1] cites whom?,{nobody},"[{\'open"\n')
    assert load(path)[0].responses == ("{nobody}", "[{'open")


def test_folder_of_files_is_read_in_order_of_names(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "b.jsonl").write_bytes(jsonl(ROWS[1:]))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(jsonl(ROWS[:1])))
    (tmp_path / "README.md").write_text("not data")
    found = load(tmp_path)
    assert [c.prompt for c in found] == ["Name a bird.", "Grüße"]
    assert [str(c.source) for c in found] == [f"{tmp_path}/a.jsonl.gz:1", f"{tmp_path}/deep/b.jsonl:1"]


def test_folder_may_mix_formats(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(jsonl(ROWS))
    (tmp_path / "b.jsonl").write_bytes(jsonl([{"prompt": "p", "responses": ["a", "b"], "scores": [1, 2]}]))
    assert load(tmp_path).summary["format"] == "pair + ranking"


def test_limit(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(jsonl())
    assert len(load(path, limit=1)) == 1


def test_bytes_of_images_in_parquet(tmp_path: Path) -> None:
    path = tmp_path / "images.parquet"
    row = {"jpg_0": b"\xff\xd8\xffone", "jpg_1": b"\xff\xd8\xfftwo", "label_0": 0.0, "caption": "a heron"}
    pa.parquet.write_table(pa.Table.from_pylist([row]), path)
    found = load(path)[0]
    assert found.responses == (row["jpg_1"], row["jpg_0"])
    assert found.edges == (Edge(0, 1),)


def test_nothing_there(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_bytes(jsonl())
    with pytest.raises(UserError, match=r"no such file or folder\n  did you mean .*pairs.jsonl"):
        load(tmp_path / "pears.jsonl")
    with pytest.raises(UserError, match="does not exist either"):
        load(tmp_path / "no" / "pairs.jsonl")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no data file"):
        load(tmp_path / "empty")
