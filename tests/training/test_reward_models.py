"""Reward models in the loop: they learn, stop and go on bit for bit, and are measured as reward models."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from rather import rewards
from rather.data.types import Comparison, Edge
from rather.errors import UserError
from rather.report.rescore import rescore
from rather.report.run_folder import read_run
from rather.training.calibration import Calibration
from rather.training.optimisation import auto_learning_rate
from rather.training.run import train
from tiny import tiny_encoder, tiny_model
from training.test_resume import Stop, crash_after

WORDS = ["red", "green", "blue", "river", "plan", "story", "poem", "letter", "friend", "city", "water", "name"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_encoder(tmp_path_factory.mktemp("bert") / "model")


def pairs(number: int = 48) -> list[Comparison]:
    """The answer that says good is better than the one that says bad."""
    made = []
    for i in range(number):
        about = f"{WORDS[i % 12]} {WORDS[i * 5 % 11]}"
        responses = (f"good {WORDS[i * 7 % 12]}", f"bad {WORDS[i * 3 % 12]}")
        made.append(Comparison(f"p{i}", f"Write about {about} {i}", responses, (Edge(0, 1),)))
    return made


def fit(output: Path, model: str, **options: Any) -> Any:
    settings = {"method": "bt", "learning_rate": 0.02, "batch_size": 8, "epochs": 3, "precision": "fp32"}
    settings |= {"eval_fraction": 0.25, "output": str(output), "quiet": True, "lr_schedule": "constant"}
    return train(model, pairs(), **{**settings, **options})


@pytest.mark.parametrize(("query", "method"), [("", "bt"), ("?head=gpm&dim=4", "gpm")])
def test_a_reward_model_learns_and_is_measured(tmp_path: Path, encoder: str, query: str, method: str) -> None:
    result = fit(tmp_path / "run", f"reward:{encoder}{query}", method=method)
    assert result.after["accuracy"] >= 0.9 and result.after["loss"] < 0.5 < result.before["loss"]
    assert not [name for name in result.after if "logps" in name or "length" in name]
    bins = result.after["calibration"]["bins"]
    assert sum(row["n"] for row in bins) == result.after["pairs"]
    # With hard labels and no offset the loss is the log-loss.
    assert result.after["log_loss"] == pytest.approx(result.after["loss"], rel=1e-5)
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert not [name for row in rows for name in row if name.startswith(("logps", "length"))]
    judge = rewards.load(tmp_path / "run")
    assert judge.compare("Write about red green 1", "good river", "bad plan") > 0.5
    assert judge.scale == pytest.approx(10.0 if method == "gpm" else 1.0)
    assert 'id="calibration"' in (tmp_path / "run" / "report.html").read_text()


def test_evaluating_a_run_gives_its_numbers_again(tmp_path: Path, encoder: str) -> None:
    from rather.data.writing import write_jsonl

    write_jsonl(pairs(), tmp_path / "pairs.jsonl")
    settings = {"method": "gpm", "learning_rate": 0.02, "batch_size": 8, "precision": "fp32", "quiet": True}
    result = train(
        f"reward:{encoder}?head=gpm&dim=4", tmp_path / "pairs.jsonl", output=str(tmp_path / "run"), **settings
    )
    again = rescore(read_run(tmp_path / "run"), show=False)
    for side in ("before", "after"):
        for name in ("accuracy", "loss", "log_loss", "calibration_error"):
            assert again[side][name] == pytest.approx(getattr(result, side)[name], rel=1e-4, abs=1e-6), name


@pytest.mark.parametrize("query", ["", "?head=gpm&dim=4"])
def test_a_resumed_run_equals_an_undisturbed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoder: str, query: str
) -> None:
    options = {"method": "gpm" if query else "bt", "save_steps": 2, "micro_batch_size": 3}
    whole = fit(tmp_path / "whole", f"reward:{encoder}{query}", **options).output
    crash_after(5, monkeypatch)
    with pytest.raises(Stop):
        fit(tmp_path / "broken", f"reward:{encoder}{query}", **options)
    again = fit(tmp_path / "broken", f"reward:{encoder}{query}", resume=True, **options).output
    for name in ("model.safetensors", "reward_head.safetensors"):
        one, other = (load_file(run / "model" / name) for run in (whole, again))
        assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one), name
    assert json.loads((whole / "evaluation.json").read_text()) == json.loads((again / "evaluation.json").read_text())


def test_losses_of_reward_models_need_one(tmp_path: Path, encoder: str) -> None:
    folder = tiny_model(tmp_path / "llama")
    with pytest.raises(UserError, match=r"needs the rewards of a reward model") as told:
        fit(tmp_path / "a", folder)
    assert "reward:MODEL" in str(told.value)
    with pytest.raises(UserError, match="a reward model that embeds answers"):
        fit(tmp_path / "b", f"reward:{encoder}", method="gpm")
    with pytest.raises(UserError, match="needs true log-probabilities"):
        fit(tmp_path / "c", f"reward:{encoder}", method="orpo")
    for name in ("gpo", "pad"):
        with pytest.raises(UserError, match="several answers with a score each"):
            fit(tmp_path / "d", folder, method=name)


def test_a_pairwise_method_may_train_rewards_against_the_model_before(tmp_path: Path, encoder: str) -> None:
    result = fit(tmp_path / "run", f"reward:{encoder}", method="hinge", beta=1.0)
    assert result.after["accuracy"] >= 0.9
    assert rewards.load(tmp_path / "run").scale == 1.0


def test_calibration_by_hand() -> None:
    found = Calibration(torch.device("cpu"))
    # Confidences 0.6 (right, right, wrong), 0.9 (right), 0.5 (a tie).
    logit = [math.log(p / (1 - p)) for p in (0.6, 0.9)]
    found.add(torch.tensor([logit[0], logit[0], -logit[0]]), 1.0)
    found.add(torch.tensor([logit[1], 0.0]), 1.0)
    found.add(torch.tensor([-7.0, -8.0]), 0.0)
    result = found.result()
    assert result["log_loss"] == pytest.approx(
        -(2 * math.log(0.6) + math.log(0.4) + math.log(0.9) + math.log(0.5)) / 5
    )
    by_confidence = {round(row["confidence"], 6): (row["n"], row["right"]) for row in result["calibration"]["bins"]}
    assert by_confidence == {0.5: (1, 0.5), 0.6: (3, pytest.approx(2 / 3)), 0.9: (1, 1.0)}
    assert result["calibration_error"] == pytest.approx((3 * abs(2 / 3 - 0.6) + 0.1) / 5)
    assert Calibration(torch.device("cpu")).result() == {}


def test_calibration_of_certain_margins_is_finite() -> None:
    found = Calibration(torch.device("cpu"))
    found.add(torch.tensor([1e4, -1e4]), 1.0)
    assert found.result()["log_loss"] == pytest.approx(5e3)
    assert found.result()["calibration_error"] == pytest.approx(0.5)


def test_a_fresh_head_is_given_a_larger_rate() -> None:
    rates = [auto_learning_rate(False, size, fresh=True) for size in (10**7, 10**8, 10**9)]
    assert rates == sorted(rates, reverse=True)
    assert all(rate > auto_learning_rate(False, size) for rate, size in zip(rates, (10**7, 10**8, 10**9), strict=True))
