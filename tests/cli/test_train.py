"""``rather train`` as a user meets it: whole runs on a tiny language model, and every mistake a message."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from command import Call
from tiny import tiny_model

WORDS = ["red", "green", "blue", "good", "river", "plan", "story", "poem", "letter", "friend", "city", "water"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("RATHER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def pairs(path: Path, number: int = 24, start: int = 0) -> Path:
    rows = [
        {
            "prompt": f"Please write about {WORDS[i % 12]} {i}",
            "chosen": f"Sure, here is {WORDS[i % 7]} and {WORDS[i % 5]}.",
            "rejected": f"No {WORDS[i % 11]}.",
        }
        for i in range(start, start + number)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return pairs(tmp_path / "pairs.jsonl")


SMALL = ("--batch-size", 6, "--learning-rate", "1e-3", "--sample-tokens", 8, "--sample-prompts", 2)


def test_a_run_from_flags_leaves_the_whole_folder(model: str, data: Path, rather: Call, tmp_path: Path) -> None:
    code, _, told = rather("train", "--model", model, "--data", data, "--output", "run", "--beta", "0.2", *SMALL)
    assert code == 0, told
    run = tmp_path / "run"
    found = {path.name for path in run.iterdir()}
    assert found >= {
        "config.yaml",
        "run.json",
        "metrics.jsonl",
        "evaluation.json",
        "samples.jsonl",
        "model",
        "report.html",
    }
    assert not [path for path in run.rglob("*") if "partial" in path.name]
    record = json.loads((run / "run.json").read_text())
    assert record["status"] == "finished"
    assert record["method"]["options"]["beta"] == 0.2
    assert record["data"]["train"]["n"] + record["data"]["eval"]["n"] == 24
    evaluation = json.loads((run / "evaluation.json").read_text())
    assert evaluation["before"]["accuracy"] == 0.5
    assert evaluation["after"]["accuracy"] != 0.5
    samples = [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]
    assert len(samples) == 2
    assert all(isinstance(row["after"], str) for row in samples)
    assert "ranking accuracy" in told

    from transformers import AutoModelForCausalLM, AutoTokenizer

    AutoModelForCausalLM.from_pretrained(run / "model")
    AutoTokenizer.from_pretrained(run / "model")
    assert (run / "model" / "README.md").read_text().startswith("---")


def test_adapters_and_yaml(model: str, data: Path, rather: Call, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(
        f"model: {model}\ndata: {data}\nlora: true\nlora_rank: 4\nmethod:\n  name: rdpo\n  flip_rate: 0.2\n"
        "batch_size: 6\nsamples: false\noutput: run\nmax_steps: 9\n"
    )
    code, _, told = rather("train", "--config", "run.yaml", "--max-steps", 4)
    assert code == 0, told
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["steps"] == 4
    assert record["method"]["options"]["flip_rate"] == 0.2
    assert record["reference"] == "cached"
    assert 0 < record["parameters"]["trained"] < record["parameters"]["total"] / 2
    assert (tmp_path / "run" / "model" / "adapter_model.safetensors").exists()
    assert not (tmp_path / "run" / "samples.jsonl").exists()
    # The saved configuration loads back: the same run under another name ends at the same numbers.
    code, _, told = rather("train", "--config", "run/config.yaml", "--output", "again")
    assert code == 0, told
    one, other = (json.loads((tmp_path / name / "evaluation.json").read_text()) for name in ("run", "again"))
    assert one == other


def _no_config(folder: Path) -> str:
    folder.mkdir()
    return str(folder)


def _edit(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


MISTAKES: dict[str, tuple[Callable[[Path], list[Any]], str]] = {
    "unknown setting": (lambda p: ["--bacth-size", "4"], "did you mean 'batch_size'"),
    "unknown option of the method": (lambda p: ["--bet", "1"], "did you mean 'beta'"),
    "unknown method": (lambda p: ["--method", "dop"], "did you mean 'dpo'"),
    "wrong type": (lambda p: ["--batch-size", "many"], "valid integer"),
    "out of range": (lambda p: ["--beta", "0"], "greater than 0"),
    "setting without a value": (lambda p: ["--data"], "--data"),
    "a word too many": (lambda p: ["now"], "unexpected argument 'now'"),
    "no such data": (lambda p: ["--data", "nowhere.jsonl"], "nowhere.jsonl"),
    "empty data": (lambda p: ["--data", _edit(p / "empty.jsonl", "")], "empty.jsonl"),
    "no such model": (lambda p: ["--model", "./nowhere"], "no such folder"),
    "model without a config": (lambda p: ["--model", _no_config(p / "bare")], "config.json is missing"),
    "model that is a file": (lambda p: ["--model", _edit(p / "weights.safetensors", "x")], "single file"),
    "no such file of settings": (lambda p: ["--config", "nowhere.yaml"], "nowhere.yaml"),
    "settings that are not YAML": (lambda p: ["--config", _edit(p / "bad.yaml", "a: [1\nb: 2")], "bad.yaml:2"),
    "unknown key in the file": (lambda p: ["--config", _edit(p / "run.yaml", "seed: 1\nepoch: 2")], "run.yaml:2"),
    "output is a file": (lambda p: ["--output", _edit(p / "taken", "")], "is a file"),
    "output is inside a file": (lambda p: ["--output", _edit(p / "taken", "") / "run"], "cannot be written"),
    "output holds something else": (lambda p: ["--output", _edit(p / "full.d" / "x", "").parent], "not a run"),
    "nothing to resume": (lambda p: ["--resume"], "no run to resume"),
    "held-out data is the training data": (lambda p: ["--eval-data", p / "pairs.jsonl"], "in the training data too"),
    "no reference for a method that has one": (lambda p: ["--reference", "none"], "compares with a reference"),
    "adapters off without adapters": (lambda p: ["--reference", "adapters"], "needs lora"),
    "no layer of that name": (lambda p: ["--lora", "--lora-targets", "nothing"], "linear layers of this model"),
    "a tracker that does not exist": (lambda p: ["--report-to", "notebook"], "tensorboard"),
    "every example too long": (lambda p: ["--max-length", "4", "--truncation", "drop"], "no comparison is left"),
    "no number of that name": (lambda p: ["--best-metric", "acuracy"], "did you mean 'accuracy'"),
}


@pytest.mark.parametrize("kind", list(MISTAKES))
def test_a_mistake_is_a_message(kind: str, model: str, data: Path, rather: Call, tmp_path: Path) -> None:
    (tmp_path / "full.d").mkdir()
    make, words = MISTAKES[kind]
    extra = make(tmp_path)
    base = {"--model": model, "--data": data, "--output": "run"}
    arguments = [word for flag, value in base.items() if flag not in extra for word in (flag, value)]
    code, out, told = rather("train", *arguments, *SMALL, *extra)
    assert code == 2, told
    assert words in told, told
    assert "Traceback" not in told + out
    assert told.count("\n") < 30
    if kind not in ("no number of that name",):  # found out by the first evaluation, when the run is there
        assert not (tmp_path / "run").exists()


def test_a_method_for_pairs_refuses_marks(model: str, rather: Call, tmp_path: Path) -> None:
    rows = [{"prompt": f"Please {word}", "completion": "Sure.", "label": i % 2 == 0} for i, word in enumerate(WORDS)]
    path = tmp_path / "marks.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, _, told = rather("train", "--model", model, "--data", path, "--output", "run")
    assert code == 2
    assert "needs pairs" in told
    assert "marks.jsonl:1" in told
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_output_that_cannot_be_written(model: str, data: Path, rather: Call, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    code, _, told = rather("train", "--model", model, "--data", data, "--output", locked / "run")
    assert code == 2
    assert "cannot be written" in told


def test_the_same_command_twice(model: str, data: Path, rather: Call, tmp_path: Path) -> None:
    command = ("train", "--model", model, "--data", data, "--output", "run", "--no-samples", *SMALL)
    assert rather(*command)[0] == 0
    code, _, told = rather(*command)
    assert code == 2
    assert "holds a finished run" in told
    code, _, told = rather(*command, "--resume")
    assert code == 0
    assert "is finished" in told
    record = tmp_path / "run" / "run.json"
    record.write_text(record.read_text().replace('"finished"', '"running"', 1))
    code, _, told = rather(*command)
    assert code == 2
    assert "--resume" in told


def test_help_shows_every_setting_in_its_panel(rather: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    from rather.training.config import PANELS, flags

    monkeypatch.setenv("COLUMNS", "200")
    code, out, _ = rather("train", "--help")
    assert code == 0
    for name in flags():
        assert f"--{name.replace('_', '-')}" in out
    for title in PANELS:
        assert f" {title} " in out


def test_commands_and_version(rather: Call) -> None:
    from rather import __version__

    code, out, _ = rather("--help")
    assert code == 0
    assert "train" in out
    assert rather("--version")[1].strip() == __version__
    code, _, told = rather("trian")
    assert (code, "did you mean 'train'" in told) == (2, True)


def test_the_installed_command_says_it_without_a_traceback(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "rather", "train", "--model", "x"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 2
    assert "error: --data: is needed" in done.stderr
    assert "Traceback" not in done.stderr
