"""Rationales by a model: what it is asked, what is kept, and going on after a stop."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rather.data.load import load
from rather.data.rationales import judge_prompt
from rather.data.types import Comparison, Edge
from rather.errors import UserError
from rather.sampling import rationales
from rather.sampling.rationales import RationaleSettings, write_rationales
from rows import jsonl, pair
from tiny import tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def pairs(tmp_path: Path) -> list[Comparison]:
    rows = [pair(i) for i in range(5)]
    return list(load(str(jsonl(tmp_path / "pairs.jsonl", *rows))))


def settings(model: str, **changes: Any) -> RationaleSettings:
    return RationaleSettings(model, **{"max_new_tokens": 6, "dtype": "float32", "chunk": 2, **changes})


def test_the_judge_is_told_the_verdict_by_the_names_in_use() -> None:
    (turn,) = judge_prompt("Why?", "Because.", "No.", "rejected", "general")
    assert "Answer A:\nNo." in turn["content"] and "Answer B:\nBecause." in turn["content"]
    assert "Answer B was preferred to Answer A." in turn["content"]


def test_written_rows_are_read_back_as_the_same_pairs(model: str, pairs: list[Comparison], tmp_path: Path) -> None:
    ranking = Comparison("r", "p", ("a", "b", "c"), (Edge(0, 1), Edge(0, 2)))
    out = tmp_path / "out.jsonl"
    written = write_rationales([*pairs, ranking], settings(model), out)
    assert (written.rationales + written.empty, written.others) == (5, 1)
    found = list(load(str(out)))
    assert [(one.id, one.responses, one.edges) for one in found] == [
        (one.id, one.responses, one.edges) for one in pairs
    ]
    firsts = [one.extras["rationale_first"] for one in found[:5]]
    assert set(firsts) == {"chosen", "rejected"}
    assert any(one.extras["rationale"] for one in found)
    assert "rationale" not in json.loads(out.read_text().splitlines()[5])
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_stopped_run_goes_on_and_ends_the_same(
    model: str, pairs: list[Comparison], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, stopped = tmp_path / "whole.jsonl", tmp_path / "stopped.jsonl"
    write_rationales(pairs, settings(model), whole)
    asked: list[int] = []
    sample = rationales._Sampler.texts

    def counted(self: Any, prompts: list[Any], start: int) -> list[str]:
        if start == 4 and len(asked) < 3:
            asked.append(-1)
            raise KeyboardInterrupt
        asked.append(start)
        return sample(self, prompts, start)

    monkeypatch.setattr(rationales._Sampler, "texts", counted)
    with pytest.raises(KeyboardInterrupt):
        write_rationales(pairs, settings(model), stopped)
    assert not stopped.exists()
    write_rationales(pairs, settings(model), stopped)
    assert asked == [0, 2, -1, 4]
    assert stopped.read_bytes() == whole.read_bytes()


def test_other_settings_begin_anew(
    model: str, pairs: list[Comparison], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.jsonl"
    starts: list[int] = []

    def texts(self: Any, prompts: list[Any], start: int) -> list[str]:
        if len(starts) == 2:
            starts.append(-1)
            raise KeyboardInterrupt
        starts.append(start)
        return ["x"] * len(prompts)

    monkeypatch.setattr(rationales._Sampler, "texts", texts)
    with pytest.raises(KeyboardInterrupt):
        write_rationales(pairs, settings(model), out)
    write_rationales(pairs, settings(model, seed=1), out)
    assert starts == [0, 2, -1, 0, 2, 4]


def test_a_pair_that_is_too_long_has_none(model: str, tmp_path: Path) -> None:
    long = Comparison("long", "the " * 600, ("a", "b"), (Edge(0, 1),))
    short = Comparison("short", "the", ("a", "b"), (Edge(0, 1),))
    out = tmp_path / "out.jsonl"
    assert write_rationales([long, short], settings(model), out).empty >= 1
    assert json.loads(out.read_text().splitlines()[0])["rationale"] is None


def test_mistakes(model: str, pairs: list[Comparison], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no pair"):
        write_rationales([Comparison("a", "p", ("x",))], settings(model), tmp_path / "out.jsonl")
    with pytest.raises(UserError, match="cannot be written"):
        write_rationales(pairs, settings(model), tmp_path / "missing" / "out.jsonl")
    plain = tiny_model(tmp_path / "plain", chat=False)
    with pytest.raises(UserError, match="no chat template"):
        write_rationales(pairs, settings(plain), tmp_path / "out.jsonl")


def test_command(model: str, tmp_path: Path) -> None:
    from rather.cli.main import app

    data, out = jsonl(tmp_path / "data.jsonl", pair(0), pair(1)), tmp_path / "out.jsonl"
    arguments = ["rationales", str(data), "--model", model, "--out", str(out), "--precision", "float32"]
    done = CliRunner().invoke(app, [*arguments, "--max-new-tokens", "5", "--chosen-first"])
    assert done.exit_code == 0, done.output
    assert f"rationales in {out}" in done.output
    assert [json.loads(line)["rationale_first"] for line in out.read_text().splitlines()] == ["chosen"] * 2
    wrong = CliRunner().invoke(app, [*arguments, "--kind", "long"])
    assert isinstance(wrong.exception, UserError)
    same = CliRunner().invoke(app, ["rationales", str(out), "--model", model, "--out", str(out)])
    assert isinstance(same.exception, UserError)
