"""Data that is spilled to disk reads the same as data kept in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rather.data import load as loading
from rather.data import store
from rather.data.comparisons import Comparisons
from rather.data.store import Store, from_json, to_json
from rather.data.types import Comparison, Edge, Source
from rows import jsonl


@pytest.fixture
def given(tmp_path: Path) -> Callable[..., Comparisons]:
    """Rows, written to a file and loaded from there."""
    return lambda *rows, **options: loading.load(jsonl(tmp_path / "data.jsonl", *rows), **options)


@pytest.fixture(autouse=True)
def spool(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATHER_CACHE", str(tmp_path_factory.mktemp("cache")))


CHAT = ({"role": "system", "content": "s"}, {"role": "user", "content": [{"type": "text", "text": "Grüße 🙂"}]})
CALLS = (
    {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f"}}]},
    {"role": "tool", "content": "3"},
)

KINDS = {
    "pair": Comparison("1", "p", ("a", "b"), (Edge(0, 1, 2.0, 0.9, -1.5),), source=Source("f.jsonl", 3)),
    "plain edge": Comparison("2", "p", ("a", "b"), (Edge(1, 0),)),
    "ranking": Comparison("3", "p", ("a", "b", "c"), (Edge(0, 1), Edge(0, 2), Edge(1, 2)), scores=(3.0, 2.5, 1e-9)),
    "unpaired": Comparison("4", "p", ("a",), desirable=(False,)),
    "chat": Comparison("5", CHAT, (CALLS, "plain"), (Edge(0, 1),)),
    "images": Comparison("6", "p", (b"\x89PNG\x00\xff", b""), (Edge(0, 1),), extras={"noise": b"\x00\x01"}),
    "extras": Comparison(
        "7", "p", ("a",), extras={"tools": [{"name": "add"}], "ref": -3.5, "none": None, "deep": {"b": b"x"}}
    ),
    "odd text": Comparison("8", "line\nbreak\u2028\x00", ("\ud83d in two halves", 'quote " and \\'), (Edge(0, 1),)),
    "prompt only": Comparison("9", "p", ()),
}


@pytest.mark.parametrize("name", KINDS)
def test_json_and_back(name: str) -> None:
    assert from_json(to_json(KINDS[name])) == KINDS[name]


@pytest.fixture
def spilled(monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(store, "_CHUNK", 3)
    found = Store(2)
    for comparison in KINDS.values():
        found.append(comparison)
    found.finish()
    return found


def test_store_in_memory_stays_there() -> None:
    found = Store(100)
    for comparison in KINDS.values():
        found.append(comparison)
    found.finish()
    assert not found.on_disk
    assert list(found) == list(KINDS.values())


def test_store_on_disk_reads_the_same(spilled: Store) -> None:
    assert spilled.on_disk
    assert len(spilled) == len(KINDS)
    assert list(spilled) == list(KINDS.values())


def test_index(spilled: Store) -> None:
    items = list(KINDS.values())
    for index in range(-len(items), len(items)):
        assert spilled[index] == items[index]
    for index in (len(items), -len(items) - 1):
        with pytest.raises(IndexError):
            spilled[index]


@pytest.mark.parametrize("part", [slice(2, 5), slice(None, None, -1), slice(-3, None), slice(5, 2), slice(0, 99, 4)])
def test_slices(spilled: Store, part: slice) -> None:
    assert list(spilled[part]) == list(KINDS.values())[part]


def test_spilled_files_are_removed_with_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATHER_CACHE", str(tmp_path))
    found = Store(0)
    found.append(KINDS["pair"])
    found.finish()
    assert list(tmp_path.rglob("rows.arrow"))
    del found
    assert not list(tmp_path.rglob("rows.arrow"))


def rows(count: int) -> list[dict[str, Any]]:
    return [
        {"prompt": f"p{i}", "chosen": "a" * (i + 1), "rejected": "b", "margin": i, "annotator": f"ann{i % 3}"}
        for i in range(count)
    ]


def test_loaded_data_on_disk_is_that_in_memory(given: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = given(*rows(40))
    monkeypatch.setattr(loading, "IN_MEMORY", 7)
    monkeypatch.setattr(store, "_CHUNK", 5)
    spilled = given(*rows(40))
    assert spilled._items.on_disk
    assert not kept._items.on_disk
    assert list(spilled) == list(kept)
    assert spilled.fingerprint == kept.fingerprint
    assert spilled.summary == kept.summary
    assert spilled[-1] == kept[-1]
    assert list(spilled[3:30:7]) == list(kept[3:30:7])
    assert list(spilled.select([30, 2, -1])) == [kept[30], kept[2], kept[39]]
