"""``rather quickstart``: both of its ways are settings that a run takes; that of images runs here on little."""

from __future__ import annotations

from pathlib import Path

import pytest

from command import Call
from rather.cli import quickstart
from rather.policies.shapes.policy import ShapesPolicy
from rather.training import settings
from rather.training.record import read_json


@pytest.mark.parametrize(
    "given", [quickstart.TEXT, {**quickstart.IMAGES, "data": "pairs.jsonl"}], ids=["text", "images"]
)
def test_settings_are_those_of_a_run(given: dict[str, object]) -> None:
    config = settings.resolve(settings.from_keywords(dict(given)))
    assert config.method == given["method"] and config.eval_data == given["eval_data"]


def test_images(rather: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ShapesPolicy, "per_task", 1)
    monkeypatch.setattr(ShapesPolicy, "drawn", 1)
    little = {"eval_data": "world:shapes?split=eval&pairs=2", "batch_size": 3, "epochs": 1}
    monkeypatch.setattr(quickstart, "SAMPLED", {**quickstart.SAMPLED, "data": "world:shapes?pairs=12", "steps": 2})
    monkeypatch.setattr(quickstart, "IMAGES", {**quickstart.IMAGES, **little})
    code, _, told = rather("quickstart", "images")
    run = tmp_path / "runs" / "quickstart-images"
    assert code == 0 and "report.html" in told
    assert {"before", "after"} <= set(read_json(run / "evaluation.json")["world"])
    assert (tmp_path / "runs" / "quickstart-images-pairs.jsonl").is_file()
    assert (run / "samples" / "before.png").is_file() and (run / "samples" / "after.png").is_file()


def test_an_unknown_way_is_named(rather: Call) -> None:
    code, _, told = rather("quickstart", "video")
    assert code == 2 and "video" in told and "Traceback" not in told
