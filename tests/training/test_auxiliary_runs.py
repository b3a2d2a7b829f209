"""Runs with further responses: on a tiny language model and a tiny reward model; they learn, stop and go on bit for bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from rather.report.rescore import rescore
from rather.report.run_folder import read_run
from rather.training import checkpoints
from rather.training.run import train
from tiny import tiny_model
from training.runs import metrics, record
from training.test_resume import Stop, assert_same, crash_after


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_model(tmp_path_factory.mktemp("tiny") / "model")


DATA = "world:instructions?rationale=1"


def fit(output: Path, model: str, method: str, data: str = DATA, **options: Any) -> Any:
    settings = {
        "learning_rate": 3e-3,
        "batch_size": 4,
        "epochs": 4,
        "precision": "fp32",
        "eval_fraction": 0.3,
        "limit": 14,
    }
    settings |= {"lr_schedule": "constant", "samples": False, "save_steps": 4, "output": str(output), "quiet": True}
    return train(model, data, method=method, **{**settings, **options})


CASES = [
    ("rationale_dpo", {}, {"rationale/logps"}),
    ("rationale_orpo", {}, {"rationale/logps"}),
    ("mapl", {}, {"intra/loss", "intra/accuracy", "inter/loss", "inter/accuracy"}),
    ("degree_spo", {"degree.gamma": 1.0, "degree.levels": 3}, {"degree/loss", "degree/accuracy"}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("method", "options", "names"), CASES, ids=[case[0] for case in CASES])
def test_the_loss_falls_and_the_run_can_be_scored_again(
    tmp_path: Path, model: str, method: str, options: dict[str, Any], names: set[str]
) -> None:
    output = fit(tmp_path / "run", model, method, **options).output
    rows = metrics(output)
    assert names <= rows[0].keys() and names <= metrics(output, "eval")[0].keys()
    assert rows[-1]["loss"] < 0.9 * rows[0]["loss"]
    assert not [text for text in record(output)["warnings"] if "nothing to add" in text and "degree" not in text]
    found = rescore(read_run(output), show=False)
    evaluation = json.loads((output / "evaluation.json").read_text())
    for side in ("before", "after"):
        for name in ("loss", *names):
            assert found[side][name] == pytest.approx(evaluation[side][name], rel=1e-4), (side, name)


@pytest.mark.slow
def test_the_head_learns_and_is_saved(tmp_path: Path, model: str) -> None:
    output = fit(tmp_path / "run", model, "degree_spo").output
    found, _ = checkpoints.latest(output)
    assert found is not None
    head = found.tensors("objective")["terms.0.head.weight"]
    assert head.shape == (4, 32) and bool(head.any())
    assert metrics(output)[0]["degree/loss"] == pytest.approx(torch.tensor(4.0).log().item(), rel=1e-5)


@pytest.mark.slow
def test_a_resumed_run_equals_an_undisturbed_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    """Contrasts of both kinds and a degree head at once."""
    options = {"save_steps": 2, "epochs": 3, "degree.levels": 3}
    whole = fit(tmp_path / "whole", model, "mapl+degree_spo", **options).output
    stopped = tmp_path / "stopped"
    crash_after(3, monkeypatch)
    with pytest.raises(Stop):
        fit(stopped, model, "mapl+degree_spo", **options)
    fit(stopped, model, "mapl+degree_spo", **options, resume=True)
    assert_same(whole, stopped)
    one, other = (checkpoints.latest(folder)[0] for folder in (whole, stopped))
    assert one is not None and other is not None
    for name, tensor in one.tensors("objective").items():
        assert torch.equal(tensor, other.tensors("objective")[name]), name


@pytest.mark.slow
def test_a_reward_model_learns_contrasts(tmp_path: Path, model: str) -> None:
    result = fit(tmp_path / "run", f"reward:{model}", "mapl_rm", epochs=8)
    rows = metrics(result.output)
    assert rows[-1]["intra/loss"] < rows[0]["intra/loss"] and rows[-1]["loss"] < 0.9 * rows[0]["loss"]


def test_comparisons_without_anything_to_add_are_told(tmp_path: Path, model: str) -> None:
    options = {"max_steps": 1, "eval_fraction": 0.0}
    output = fit(tmp_path / "run", model, "rationale_dpo", "world:instructions", **options).output
    assert "rationale_dpo has nothing to add to 14 of 14 training comparisons" in record(output)["warnings"][0]
