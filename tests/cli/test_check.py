"""``rather check``: what it prints, what it writes, how it ends."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from rather.cli.check import check
from rather.data.load import load
from rather.errors import UserError
from rows import PAIR, assistant, jsonl, pair, user

APP = typer.Typer()
APP.command()(check)


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")


def run(*arguments: object) -> Any:
    return CliRunner().invoke(APP, [str(argument) for argument in arguments])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    reverse = {"prompt": PAIR["prompt"], "chosen": PAIR["rejected"], "rejected": PAIR["chosen"]}
    rows = [PAIR, pair(1), pair(2), pair(1), reverse, pair(4, chosen=""), pair(5, rejected=None)]
    return jsonl(tmp_path / "pairs.jsonl", *rows)


def test_table_names_what_is_wrong_and_where(data: Path) -> None:
    done = run(data)
    assert done.exit_code == 0
    for words in ("pair", f"{data}:4", f"{data}:6", f"{data}:7", "chosen is empty", "length bias", "fingerprint"):
        assert words in done.output
    lines = {
        line.split("│")[1].strip(): line.split("│")[2].strip() for line in done.output.splitlines() if "│" in line
    }
    assert (lines["rows"], lines["good"], lines["refused"], lines["duplicates"]) == ("7", "4", "3", "1")
    assert lines["contradictions"] == "1"
    assert "warning: 1 preferences contradict an earlier row" in done.output


def test_json_is_one_object(data: Path) -> None:
    done = run(data, "--json", "--show", 1)
    found = json.loads(done.stdout)
    assert (found["rows"], found["refused"], found["format"]) == (4, 3, "pair")
    assert found["refused_rows"][0] == {
        "path": str(data),
        "row": 4,
        "code": "duplicate",
        "reason": f"the same comparison stands at {data}:2",
    }
    assert found["comparisons"][0]["responses"] == ["Blue.", "Seven."]
    assert found["fingerprint"] == load(data).fingerprint


def test_show_prints_how_rows_were_understood(tmp_path: Path) -> None:
    turns = [user("Hi [bold]there[/bold]"), assistant("Hello!"), user("More")]
    row = {"chosen": [*turns, assistant("Good.")], "rejected": [*turns, assistant("Bad.")]}
    ranking = {"prompt": "p", "responses": ["a", "b", "c"], "scores": [1, 3, 2]}
    done = run(jsonl(tmp_path / "d.jsonl", row), "--show", 2)
    for words in (
        "[user] Hi [bold]there[/bold]",
        "[assistant] Hello!",
        "[user] More",
        "chosen: Good.",
        "rejected: Bad.",
    ):
        assert words in done.output
    done = run(jsonl(tmp_path / "e.jsonl", ranking), "--show", 1)
    assert "response 1 (score 3): b" in done.output
    assert "order: 1 > 0, 1 > 2, 2 > 0" in done.output


def test_show_marks_unpaired_feedback(tmp_path: Path) -> None:
    rows = [{"prompt": "p", "completion": "a", "label": True}, {"prompt": "p", "completion": "b", "label": False}]
    done = run(jsonl(tmp_path / "d.jsonl", *rows), "--show", 2)
    assert "desirable: a" in done.output and "undesirable: b" in done.output
    assert "1 desirable, 1 undesirable" in done.output


def test_out_writes_the_good_rows(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "clean.jsonl"
    done = run(data, "--out", out)
    assert "wrote 4 rows" in done.output
    clean = load(out, strict=True)
    assert [c.id for c in clean] == [c.id for c in load(data)]
    assert {"prompt", "chosen", "rejected", "id"} <= set(json.loads(out.read_text().splitlines()[0]))


def test_out_does_not_overwrite_the_data(data: Path) -> None:
    before = data.read_bytes()
    done = run(data, "--out", data)
    assert isinstance(done.exception, UserError)
    assert data.read_bytes() == before


def test_overlap_with_eval_data(data: Path, tmp_path: Path) -> None:
    held = jsonl(tmp_path / "eval.jsonl", pair(1), pair(2, chosen="Other."), pair(8))
    assert "1 of 3 comparisons and the prompts of 2 are in both" in run(data, "--eval-data", held).output
    found = json.loads(run(data, "--eval-data", held, "--json").stdout)["overlap"]
    assert found == {"same": 1, "prompts": 2, "n": 3, "first": [f"{held}:1"]}


def test_strict_stops_at_the_first_bad_row(data: Path) -> None:
    done = run(data, "--strict")
    assert isinstance(done.exception, UserError)
    assert done.exception.where == f"{data}:4"


def test_no_usable_row_is_a_mistake_with_code_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    from rather.cli.main import main

    path = jsonl(tmp_path / "d.jsonl", pair(1, chosen=""))
    monkeypatch.setattr(sys, "argv", ["rather", "check", str(path)])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    shown = capsys.readouterr().err
    assert "no row can be used" in shown and f"{path}:1: chosen is empty" in shown and "Traceback" not in shown


def _tokenizer_folder(folder: Path) -> Path:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel({"[UNK]": 0, "[PAD]": 1}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]", pad_token="[PAD]").save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}))
    (folder / "model.safetensors").write_bytes(b"")
    return folder


def test_lengths_in_tokens(tmp_path: Path) -> None:
    model = _tokenizer_folder(tmp_path / "model")
    rows = [pair(1, prompt="one two three", chosen="a b c"), pair(2, prompt="one", chosen="a")]
    path = jsonl(tmp_path / "d.jsonl", *rows)
    found = json.loads(run(path, "--model", model, "--max-length", 4, "--json").stdout)["tokens"]
    assert (found["prompt"]["max"], found["response"]["max"], found["total"]["max"]) == (3, 3, 6)
    over = {"rows": 1, "share": 0.5, "tokens_cut": 2, "no_room": 0, "first": [f"{path}:1"]}
    assert found["over_long"] == over
    assert "1 rows (50.0%) exceed 4 tokens: 2 would be cut" in run(path, "--model", model, "--max-length", 4).output


def test_max_length_needs_a_model(data: Path) -> None:
    done = run(data, "--max-length", 10)
    assert isinstance(done.exception, UserError)
    assert "--model" in str(done.exception.fix)
