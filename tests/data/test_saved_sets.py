"""Data sets written by ``datasets``, and names of sets on the hub."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from rather.data.load import load
from rather.errors import UserError

datasets = pytest.importorskip("datasets")

PAIR = {"prompt": ["p", "q"], "chosen": ["a", "b"], "rejected": ["c", "d"]}


@pytest.fixture(autouse=True)
def quiet() -> Any:
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def test_saved_set(tmp_path: Path) -> None:
    datasets.Dataset.from_dict(PAIR).save_to_disk(tmp_path / "set")
    found = load(tmp_path / "set")
    assert [(c.prompt, *c.responses) for c in found] == [("p", "a", "c"), ("q", "b", "d")]
    assert [str(c.source) for c in found] == [f"{tmp_path}/set:1", f"{tmp_path}/set:2"]


def test_saved_splits(tmp_path: Path) -> None:
    whole = datasets.Dataset.from_dict(PAIR)
    splits = datasets.DatasetDict({"test": whole.select([1]), "train": whole.select([0])})
    splits.save_to_disk(tmp_path / "set")
    assert load(tmp_path / "set")[0].prompt == "p"
    assert load(tmp_path / "set", split="test")[0].prompt == "q"
    with pytest.raises(UserError, match="has no split 'validation'\n  known: test, train"):
        load(tmp_path / "set", split="validation")


def test_messages_in_saved_set(tmp_path: Path) -> None:
    user = {"role": "user", "content": "p"}
    rows = [
        {
            "chosen": [user, {"role": "assistant", "content": "a"}],
            "rejected": [user, {"role": "assistant", "content": "b"}],
        }
    ]
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "set")
    found = load(tmp_path / "set")[0]
    assert found.prompt == (user,)
    assert found.responses == ("a", "b")


def test_format_of_a_saved_set_does_not_matter(tmp_path: Path) -> None:
    rows = {"prompt": ["p"], "responses": [["a", "b"]], "scores": [[1.0, 2.0]]}
    datasets.Dataset.from_dict(rows).with_format("numpy").save_to_disk(tmp_path / "set")
    assert load(tmp_path / "set")[0].scores == (1.0, 2.0)


def test_image_columns_stay_encoded(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")

    def png(colour: str) -> bytes:
        file = io.BytesIO()
        image.new("RGB", (2, 2), colour).save(file, "png")
        return file.getvalue()

    columns = {
        "jpg_0": [{"bytes": png("red"), "path": None}],
        "jpg_1": [{"bytes": png("blue"), "path": None}],
        "label_0": [1.0],
        "caption": ["red"],
    }
    features = datasets.Features(
        jpg_0=datasets.Image(),
        jpg_1=datasets.Image(),
        label_0=datasets.Value("float64"),
        caption=datasets.Value("string"),
    )
    datasets.Dataset.from_dict(columns, features=features).save_to_disk(tmp_path / "set")
    first, again = load(tmp_path / "set")[0], load(tmp_path / "set")[0]
    assert first.responses == (png("red"), png("blue"))
    assert first.id == again.id


@pytest.mark.parametrize("error", [ConnectionError("no route to the hub"), FileNotFoundError("nobody/pairs")])
@pytest.mark.parametrize("name", ["nobody/pairs", "nobody/pairs-v1.1", "nobody/pairs:small", "pairs"])
def test_name_on_the_hub_without_network(
    name: str, error: Exception, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(UserError) as caught:
        load(name)
    assert caught.value.where == name
    assert "neither a file here nor a data set" in caught.value.what
    assert str(error) in str(caught.value.fix)


def test_name_on_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    splits = datasets.DatasetDict({"test": datasets.Dataset.from_dict(PAIR)})
    asked = []
    monkeypatch.setattr(datasets, "load_dataset", lambda *name: asked.append(name) or splits)
    assert [str(c.source) for c in load("nobody/pairs")] == ["nobody/pairs:1", "nobody/pairs:2"]
    assert len(load("nobody/pairs:small")) == 2
    assert asked == [("nobody/pairs", None), ("nobody/pairs", "small")]
