"""self_npo from the command line: the method puts roll-outs around any denoising model."""

from __future__ import annotations

import base64
import json
import re
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from command import Call
from tiny_images import SIDE, rows, tiny_pipeline


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATHER_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_judge", raising=False)
    (tmp_path / "own_judge.py").write_text("def size(caption, images):\n    return [len(image) for image in images]\n")


def losses(run: Path) -> list[float]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if row["split"] == "train"]


def write_pairs(folder: Path, number: int) -> str:
    lines = []
    for i, row in enumerate(rows(number)):
        names = {side: f"{i}-{side}.png" for side in ("chosen", "rejected")}
        for side, name in names.items():
            (folder / name).write_bytes(row[side])
        lines.append(json.dumps({"prompt": row["prompt"], **names}) + "\n")
    (folder / "pairs.jsonl").write_text("".join(lines))
    return "pairs.jsonl"


def test_a_pipeline(rather: Call, tmp_path: Path) -> None:
    model = tiny_pipeline(tmp_path / "sd", "sd")
    common = (
        "train",
        "--model",
        model,
        "--data",
        write_pairs(tmp_path, 6),
        "--method",
        "self_npo",
        "--image-size",
        SIDE,
    )
    common = (
        *common,
        "--max-steps",
        3,
        "--batch-size",
        2,
        "--precision",
        "fp32",
        "--learning-rate",
        1e-3,
        "--logging-steps",
        1,
    )
    code, _, told = rather(*common, "--output", "run", "--eval-fraction", 0.3, "--lora")
    assert code == 0, told
    assert len(losses(tmp_path / "run")) == 3
    assert (tmp_path / "run" / "model" / "pytorch_lora_weights.safetensors").is_file()
    page = (tmp_path / "run" / "report.html").read_text()
    assert base64.b64encode((tmp_path / "run" / "samples" / "after.png").read_bytes()).decode() in page
    shown = json.loads((tmp_path / "run" / "samples.jsonl").read_text().splitlines()[-1])
    assert "guided away from the trained model" in shown["prompt"]
    code, _, told = rather("evaluate", "run")
    assert code == 2 and "--judge scores images" in re.sub(r"\s+", " ", told)
    code, _, told = rather("evaluate", "run", "--judge", "python:own_judge:size", "--images", 2)
    assert code == 0, told
    before, after = (
        sorted((tmp_path / "run" / "samples" / "judged" / side).iterdir()) for side in ("before", "after")
    )
    assert len(before) == len(after) == 1
    assert [path.read_bytes() for path in before] != [path.read_bytes() for path in after]
    code, _, told = rather(*common, "--output", "other", "--rollout.excess", -1, "--rollout.start", "data")
    assert code == 0, told
    assert losses(tmp_path / "other") != losses(tmp_path / "run")
    code, _, told = rather(*common, "--output", "wrong", "--rollout.steps", 0)
    assert code == 2 and "rollout.steps" in told


def test_captions_are_data_enough(rather: Call, tmp_path: Path) -> None:
    model = tiny_pipeline(tmp_path / "sd", "sd")
    (tmp_path / "captions.jsonl").write_text(
        "".join(f'{{"prompt": "{word}"}}\n' for word in ("a cat", "a dog", "a boat"))
    )
    common = (
        "train", "--model", model, "--data", "captions.jsonl", "--image-size", SIDE, "--max-steps", 1, "--batch-size", 2,
        "--precision", "fp32", "--eval-fraction", 0, "--no-samples",
    )  # fmt: skip
    code, _, told = rather(*common, "--method", "self_npo", "--output", "run")
    assert code == 0, told
    code, _, told = rather(*common, "--method", "self_npo", "--rollout.start", "data", "--output", "wrong")
    assert code == 2 and "there is no image" in re.sub(r"\s+", " ", told)
    code, _, told = rather(*common, "--method", "sft", "--output", "wrong")
    assert code == 2 and "3 of 3 examples have none" in re.sub(r"\s+", " ", told)


def test_points(rather: Call, tmp_path: Path) -> None:
    code, _, told = rather(
        "train", "--model", "toy:points?steps=20", "--data", "world:points?pairs=40", "--method", "self_npo",
        "--max-steps", 4, "--batch-size", 8, "--output", "run", "--save-steps", 0,
    )  # fmt: skip
    assert code == 0, told
    assert load_file(tmp_path / "run" / "model" / "model.safetensors")
    found = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert "pass_rate" in found["world"]["after"], "what the world tells is told of the student"
    code, _, told = rather("evaluate", "run")
    assert code == 2 and "not the responses of the data" in told


def test_another_model_is_refused(rather: Call) -> None:
    code, _, told = rather(
        "train", "--model", "toy:shop", "--data", "world:shop", "--method", "self_npo", "--output", "run"
    )
    assert code == 2 and "a denoising model" in told
