"""Where data comes from: kinds of files, compression, folders, saved data sets, schemes; and what load gives."""

from __future__ import annotations

import csv
import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from rather.data import load as loading
from rather.data.load import load
from rather.data.schemes import register_scheme
from rather.data.types import Comparison, Edge
from rather.errors import UserError
from rows import assistant, jsonl, pair, user

ROWS = [
    {"prompt": [user(f"Q{i}, \"ü\"\n?")], "chosen": [assistant(f"A{i}")], "rejected": [assistant(f"B{i}")], "weight": i + 0.5}
    for i in range(3)
]  # fmt: skip


def _json(path: Path) -> None:
    path.write_text(json.dumps(ROWS), encoding="utf-8")


def _json_data(path: Path) -> None:
    path.write_text(json.dumps({"data": ROWS, "version": 1}), encoding="utf-8")


def _jsonl(path: Path) -> None:
    jsonl(path, *ROWS)


def _bom(path: Path) -> None:
    path.write_text("".join(json.dumps(row) + "\r\n" for row in ROWS), encoding="utf-8-sig")


def _csv(path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t" if ".tsv" in path.name else ",")
        writer.writerow(ROWS[0])
        writer.writerows([json.dumps(v) if isinstance(v, list) else v for v in row.values()] for row in ROWS)


def _parquet(path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    pyarrow.parquet.write_table(pa.Table.from_pylist(ROWS), path)


def _feather(path: Path) -> None:
    import pyarrow as pa
    import pyarrow.feather

    pyarrow.feather.write_feather(pa.Table.from_pylist(ROWS), str(path))


def _arrow_stream(path: Path) -> None:
    import pyarrow as pa

    table = pa.Table.from_pylist(ROWS)
    with pa.ipc.new_stream(str(path), table.schema) as writer:
        writer.write_table(table)


WRITERS: list[tuple[str, Callable[[Path], None]]] = [
    ("d.jsonl", _jsonl),
    ("d.ndjson", _jsonl),
    ("bom.jsonl", _bom),
    ("lines.json", _jsonl),
    ("list.jsonl", _json),
    ("d.json", _json),
    ("data.json", _json_data),
    ("d.csv", _csv),
    ("d.tsv", _csv),
    ("d.parquet", _parquet),
    ("d.feather", _feather),
    ("d.arrow", _arrow_stream),
]


@pytest.mark.parametrize("packing", ["", ".gz", ".zst"])
@pytest.mark.parametrize(("name", "write"), WRITERS, ids=[name for name, _ in WRITERS])
def test_the_same_rows_from_every_kind_of_file(
    tmp_path: Path, name: str, write: Callable[[Path], None], packing: str
) -> None:
    path = tmp_path / name
    write(path)
    if packing:
        pack = gzip.compress if packing == ".gz" else zstandard.compress
        path, plain = tmp_path / (name + packing), path
        path.write_bytes(pack(plain.read_bytes()))
    expected = load(jsonl(tmp_path / "expected.jsonl", *ROWS))
    found = load(path)
    assert found.fingerprint == expected.fingerprint
    assert [c.prompt for c in found] == [(row["prompt"][0],) for row in ROWS]
    assert [c.edges for c in found] == [(Edge(0, 1, weight=i + 0.5),) for i in range(3)]


def test_compression_is_told_by_content(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_bytes(gzip.compress(jsonl(tmp_path / "plain.jsonl", pair(1)).read_bytes()))
    assert load(path)[0].prompt == "Question 1?"


def test_a_folder_of_files(tmp_path: Path) -> None:
    jsonl(tmp_path / "a.jsonl", pair(1))
    (tmp_path / "b.csv").write_text("prompt,chosen,rejected\nx,y,z\n")
    (tmp_path / "README.md").write_text("words")
    (tmp_path / ".hidden").mkdir()
    jsonl(tmp_path / ".hidden" / "c.jsonl", pair(3))
    found = load(tmp_path)
    assert [c.prompt for c in found] == ["Question 1?", "x"]
    assert [str(c.source) for c in found] == [f"{tmp_path}/a.jsonl:1", f"{tmp_path}/b.csv:2"]


def test_splits_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    jsonl(tmp_path / "train-00000-of-00001.jsonl", pair(1))
    jsonl(tmp_path / "test" / "part.jsonl", pair(2))
    assert [c.prompt for c in load(tmp_path)] == ["Question 1?"]
    assert [c.prompt for c in load(tmp_path, split="test")] == ["Question 2?"]
    with pytest.raises(UserError, match="split 'dev'") as caught:
        load(tmp_path, split="dev")
    assert "test, train" in str(caught.value.fix)


def test_saved_data_sets(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    train, test = (datasets.Dataset.from_list([pair(i)]) for i in (1, 2))
    train.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": train, "test": test}).save_to_disk(tmp_path / "two")
    datasets.DatasetDict({"x": train, "y": test}).save_to_disk(tmp_path / "three")
    assert load(tmp_path / "one")[0].prompt == "Question 1?"
    assert load(tmp_path / "two")[0].prompt == "Question 1?"
    assert load(tmp_path / "two", split="test")[0].prompt == "Question 2?"
    with pytest.raises(UserError, match="no split 'tset'") as caught:
        load(tmp_path / "two", split="tset")
    assert "did you mean 'test'" in str(caught.value.fix)
    with pytest.raises(UserError, match="has the splits x, y"):
        load(tmp_path / "three")


def test_a_damaged_saved_data_set(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text("{}")
    with pytest.raises(UserError, match="looks like a saved data set") as caught:
        load(tmp_path)
    assert caught.value.where == str(tmp_path)


def test_the_hub_fails_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")

    def unreachable(*_: object) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(UserError, match="neither a file here nor a data set") as caught:
        load("someone/something")
    assert "no route to host" in str(caught.value.fix)


def test_the_hub_gives_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    asked = []

    def give(path: str, config: str | None) -> object:
        asked.append((path, config))
        return datasets.DatasetDict({"train": datasets.Dataset.from_list([pair(1), pair(2)])})

    monkeypatch.setattr(datasets, "load_dataset", give)
    found = load("someone/something:small")
    assert asked == [("someone/something", "small")]
    assert str(found[1].source) == "someone/something:small:2"


def test_a_scheme_gives_rows_or_comparisons() -> None:
    register_scheme("rowsfortest", lambda name: [pair(1), pair(2), pair(2)])
    found = load("rowsfortest:anything")
    assert [str(c.source) for c in found] == ["rowsfortest:anything:1", "rowsfortest:anything:2"]
    assert found.refused[0].code == "duplicate"
    ready = Comparison("x", 3, ((0.5, 1.0), (2.0, 3.0)), (Edge(0, 1),))
    register_scheme("readyfortest", lambda name: [ready])
    assert list(load("readyfortest:")) == [ready]


def test_worlds_load() -> None:
    found = load("world:points?pairs=20")
    assert len(found) == 20
    assert found.summary["format"] == "world"


def test_limit_counts_usable_rows(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "d.jsonl", pair(1), pair(1), pair(2), pair(3))
    found = load(path, limit=2)
    assert [c.prompt for c in found] == ["Question 1?", "Question 2?"]
    assert len(found.refused) == 1


def test_select_and_slices(tmp_path: Path) -> None:
    found = load(jsonl(tmp_path / "d.jsonl", *(pair(i) for i in range(5))))
    chosen = found.select([3, 0, -1])
    assert [c.prompt for c in chosen] == ["Question 3?", "Question 0?", "Question 4?"]
    assert list(found[1:3]) == [found[1], found[2]]
    assert chosen.summary["rows"] == 3 and chosen.summary["format"] == "pair"
    assert chosen.fingerprint != found.fingerprint
    assert found[:].fingerprint == found.fingerprint
    with pytest.raises(IndexError):
        found[5]


def test_large_data_is_read_from_disk_and_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {"prompt": [user(f"Q{i}")], "responses": [[assistant(f"A{i}")], f"B{i}"], "scores": [i, -1], "note": [1, {"a": None}]}
        for i in range(50)
    ]  # fmt: skip
    path = jsonl(tmp_path / "d.jsonl", *rows, pair(1))
    monkeypatch.setenv("RATHER_CACHE", str(tmp_path / "cache"))
    small = load(path)
    assert not (tmp_path / "cache").exists()
    monkeypatch.setattr(loading, "IN_MEMORY", 7)
    large = load(path)
    assert list(large) == list(small)
    assert [large[i] for i in (49, 0, -1)] == [small[i] for i in (49, 0, -1)]
    assert (large.summary, large.fingerprint) == (small.summary, small.fingerprint)
    assert len(list((tmp_path / "cache" / "data").iterdir())) == 1
    del large
    assert not list((tmp_path / "cache" / "data").iterdir())


texts = st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda text: bool(text.strip()))
plain = st.tuples(texts, texts, texts).filter(
    lambda t: t[1] != t[2] and not t[0].strip().startswith(("Human:", "System:"))
)


@settings(max_examples=50, deadline=None)
@given(st.lists(plain, min_size=1, max_size=6, unique=True), st.randoms(use_true_random=False))
def test_ids_do_not_depend_on_the_order_of_rows(tmp_path_factory: pytest.TempPathFactory, given_rows, random) -> None:  # type: ignore[no-untyped-def]
    folder = tmp_path_factory.mktemp("order")
    rows = [dict(zip(("prompt", "chosen", "rejected"), row, strict=True)) for row in given_rows]
    first = load(jsonl(folder / "a.jsonl", *rows))
    again = load(jsonl(folder / "b.jsonl", *rows))
    random.shuffle(rows)
    shuffled = load(jsonl(folder / "c.jsonl", *[dict(reversed(row.items())) for row in rows]))
    assert first.fingerprint == again.fingerprint
    by_id = {c.id: (c.prompt, c.responses) for c in first}
    assert len(by_id) == len(rows)
    assert {c.id: (c.prompt, c.responses) for c in shuffled} == by_id
    assert sorted((c.prompt, *c.responses) for c in first) == sorted(given_rows)


def test_real_pairs() -> None:
    path = os.environ.get("RATHER_HH_PAIRS")
    if not path:
        pytest.skip("RATHER_HH_PAIRS does not name a file of Human/Assistant transcripts")
    found = load(path)
    assert len(found) + len(found.refused) >= 1000
    assert found.summary["format"] == "pair with implicit prompt"
    assert all(c.prompt[-1]["role"] == "user" for c in found)
