"""Pairs of images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rather.data.comparisons import Comparisons
from rather.data.load import load
from rather.data.types import Edge
from rows import jsonl

PNG = b"\x89PNG rest"


@pytest.fixture
def given(tmp_path: Path) -> Callable[..., Comparisons]:
    """Rows, written to a file and loaded from there."""
    return lambda *rows, **options: load(jsonl(tmp_path / "data.jsonl", *rows), **options)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    (tmp_path / "pictures").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "pictures" / name).write_bytes(PNG + name.encode())
    return tmp_path / "pictures"


@pytest.mark.parametrize(("label", "winner"), [(1, "a.png"), (0, "b.png"), (0.9, "a.png")])
def test_judged(label: float, winner: str, pictures: Path, given: Any) -> None:
    row = {"jpg_0": "pictures/a.png", "jpg_1": "pictures/b.png", "label_0": label, "caption": "a heron"}
    found = given(row)
    assert found.summary["format"] == "image pair"
    assert found[0].prompt == "a heron"
    assert found[0].responses[0] == str(pictures / winner)
    assert found[0].edges == (Edge(0, 1),)


@pytest.mark.parametrize("names", [("chosen", "rejected"), ("chosen_image", "rejected_image")])
def test_chosen_and_rejected(names: tuple[str, str], pictures: Path, given: Any) -> None:
    row = {"prompt": "a heron", names[0]: "pictures/b.png", names[1]: {"path": "pictures/a.png", "bytes": None}}
    assert given(row)[0].responses == (str(pictures / "b.png"), str(pictures / "a.png"))


def test_paths_do_not_count_as_text(pictures: Path, given: Any) -> None:
    (pictures / "a-much-longer-name.png").write_bytes(PNG)
    row = {"prompt": "a heron", "chosen": "pictures/a-much-longer-name.png", "rejected": "pictures/a.png"}
    assert "length_bias" not in given(row).summary


def test_ids_do_not_depend_on_the_folder(tmp_path: Path) -> None:
    ids = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        folder.mkdir()
        for name in "ab":
            (folder / f"{name}.png").write_bytes(PNG)
        (folder / "rows.jsonl").write_text('{"prompt": "p", "chosen": "a.png", "rejected": "b.png"}')
        ids.append(load(folder / "rows.jsonl")[0].id)
    assert ids[0] == ids[1]


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        ({"label_0": 0.5}, "tied", "neither"),
        ({"label_0": 2}, "out-of-range", "label_0 is 2"),
        ({"label_0": None}, "missing-field", "label_0"),
        ({"jpg_1": None}, "missing-field", "jpg_1"),
        ({"jpg_1": 7}, "wrong-type", "jpg_1 is a int"),
        ({"jpg_1": ""}, "empty-field", "jpg_1"),
        ({"jpg_1": "pictures/a.png"}, "equal", "same"),
        ({"jpg_1": "pictures/c.png"}, "missing-file", "c.png"),
        ({"caption": ""}, "empty-field", "caption"),
    ],
)
def test_broken(change: dict[str, Any], code: str, says: str, pictures: Path, given: Any) -> None:
    good = {"jpg_0": "pictures/a.png", "jpg_1": "pictures/b.png", "label_0": 1, "caption": "a heron"}
    found = given(good, good | {"caption": "another"} | change)
    assert len(found) == 1
    assert [(r.code, r.source.row) for r in found.refused] == [(code, 2)]
    assert says in found.refused[0].reason
