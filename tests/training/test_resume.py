"""Stopping and going on: the result is that of an undisturbed run, bit for bit."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rather.errors import UserError
from rather.methods import registry
from rather.methods.base import Method, PairOptions
from rather.objectives.links import Logistic
from rather.objectives.outcome import Outcome
from rather.objectives.preference import Preference
from rather.training import checkpoints
from rather.training.fit import Fit
from training.catalogue import PARTS, CataloguePolicy, comparisons
from training.runs import metrics, record, short, weights

WORKER = Path(__file__).with_name("worker.py")


def assert_same(a: Path, b: Path) -> None:
    one, other = weights(a), weights(b)
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name
    assert metrics(a) == metrics(b)
    assert metrics(a, "eval") == metrics(b, "eval")
    assert json.loads((a / "evaluation.json").read_text()) == json.loads((b / "evaluation.json").read_text())


class Stop(Exception):
    """Stands for a crash inside the process."""


def crash_after(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the next run die after this step, after whatever is saved at it."""
    due = Fit._save_due

    def die(self: Fit) -> bool:
        if self.course.done == step:
            if due(self):
                self.save()
            monkeypatch.setattr(Fit, "_save_due", due)
            raise Stop
        return due(self)

    monkeypatch.setattr(Fit, "_save_due", die)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"micro_batch_size": 3, "logging_steps": 3},
        {"reference": "ema", "ref_decay": 0.8},
        {"reference": "sync", "ref_sync_steps": 3},
        {"optimizer": "rmsprop", "lr_schedule": "cosine", "weight_decay": 0.1},
        {"eval_steps": 2, "final_model": "best", "best_metric": "accuracy"},
    ],
    ids=["plain", "window", "ema", "sync", "rmsprop", "best"],
)
@pytest.mark.parametrize("crash", [4, 7])
def test_a_resumed_run_equals_an_undisturbed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], crash: int
) -> None:
    """Crash 4 is right after a checkpoint, crash 7 three steps after one, so that steps are taken twice."""
    options = {"save_steps": 2 if crash == 4 else 4, **options}
    whole = short(tmp_path / "whole", policy=CataloguePolicy(dropout=0.3), **options).output
    crash_after(crash, monkeypatch)
    with pytest.raises(Stop):
        short(tmp_path / "broken", policy=CataloguePolicy(dropout=0.3), **options)
    again = short(tmp_path / "broken", policy=CataloguePolicy(dropout=0.3), resume=True, **options).output
    assert_same(whole, again)
    assert len(metrics(again)) == (3 if "logging_steps" in options else 8)


def labels_in(output: Path) -> dict[str, Tensor]:
    """The newest checkpoint's tensors of the objective."""
    found, _ = checkpoints.latest(output)
    assert found is not None
    return dict(found.tensors("objective"))


@pytest.mark.parametrize("name", PARTS)
def test_parts_of_a_method_are_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Crash after step 5, two steps behind a checkpoint; the table of labels is what it was, and grows on."""
    options = {"save_steps": 3, "micro_batch_size": 3, "learning_rate": 0.01, **PARTS[name]}
    whole = short(tmp_path / "whole", **options).output
    crash_after(5, monkeypatch)
    with pytest.raises(Stop):
        short(tmp_path / "broken", **options)
    early = labels_in(tmp_path / "broken")
    again = short(tmp_path / "broken", resume=True, **options).output
    assert_same(whole, again)
    one, other = labels_in(whole), labels_in(again)
    assert one.keys() == other.keys() == early.keys()
    assert bool(one) is ("label" in str(PARTS[name]) or name == "power_dl")
    for entry, tensor in one.items():
        assert torch.equal(tensor, other[entry])
        assert 0 < early[entry].numel() < tensor.numel()
    assert metrics(again)[-1]["loss"] != metrics(again)[0]["loss"]


class Moving(Preference):
    """A running mean of the margins (a buffer) is the offset, and a learned scale multiplies beta."""

    def __init__(self, options: PairOptions) -> None:
        super().__init__(beta=options.beta, link=Logistic())
        self.scale = nn.Parameter(torch.ones(2))
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("table", torch.zeros(0))

    def forward(self, policy: Any, reference: Any, layout: Any) -> Outcome:
        self.offset.constant = float(self.mean)
        outcome = super().forward(policy, reference, layout)
        terms = tuple(type(t)(t.name, t.values * self.scale.prod(), t.unit, t.coefficient) for t in outcome.terms)
        seen = {"margins": outcome.margins.detach()}
        return Outcome(terms, outcome.rewards, outcome.margins, outcome.per_edge, outcome.logps, seen)

    def advance(self, observations: Any) -> None:
        margins: Tensor = observations["margins"]
        self.mean.lerp_(margins.mean(), 0.5)
        self.table = torch.cat([self.table, margins.mean()[None]])


MOVING = Method("moving", "Moving", "l(z - mean z)", "test", PairOptions, Moving)


def test_moving_and_learned_parts_of_the_objective_are_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {**registry.methods(), "moving": MOVING}
    monkeypatch.setattr(registry, "methods", lambda: known)
    options = {"method": "moving", "save_steps": 3, "micro_batch_size": 2, "batch_size": 6}
    whole = short(tmp_path / "whole", **options).output
    crash_after(5, monkeypatch)
    with pytest.raises(Stop):
        short(tmp_path / "broken", **options)
    assert_same(whole, short(tmp_path / "broken", resume=True, **options).output)
    found, _ = checkpoints.latest(whole)
    assert found is not None
    objective = found.tensors("objective")
    assert objective["mean"] != 0
    assert objective["table"].numel() == found.step
    assert not torch.equal(objective["scale"], torch.ones(2))


def launch(output: Path, cache: Path, **options: Any) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "RATHER_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    told = json.dumps({"output": str(output), "save_steps": 3, "epochs": 6, **options})
    return subprocess.Popen([sys.executable, str(WORKER), told], env=environment, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes]) -> int:
    _, told = process.communicate(timeout=300)
    assert process.returncode in (0, 130, -9), told.decode()
    return process.returncode


def wait_for_steps(output: Path, number: int, process: subprocess.Popen[bytes]) -> None:
    path = output / "metrics.jsonl"
    while process.poll() is None and (not path.exists() or path.read_text().count("train") < number):
        time.sleep(0.02)


@pytest.mark.slow
def test_kill_at_random_moments(tmp_path: Path) -> None:
    """Five kills of one run, each somewhere else; the sixth start finishes it."""
    options = {"reference": "ema", "dropout": 0.3, "eval_steps": 7, "micro_batch_size": 3}
    kills = int(os.environ.get("RATHER_TEST_KILLS", "5"))
    moments = random.Random(kills)
    assert finish(launch(tmp_path / "whole", tmp_path / "cache", **options)) == 0
    killed = 0
    for number in range(kills):
        resume = (tmp_path / "broken" / "config.yaml").exists()
        process = launch(tmp_path / "broken", tmp_path / "cache", resume=resume, pause=0.02, **options)
        wait_for_steps(tmp_path / "broken", 2 + 4 * number % 20, process)
        time.sleep(moments.random() * 0.2)
        process.kill()
        killed += finish(process) == -9
        if (tmp_path / "broken" / "run.json").exists() and record(tmp_path / "broken")["status"] == "finished":
            break
    assert killed
    assert finish(launch(tmp_path / "broken", tmp_path / "cache", resume=True, **options)) == 0
    assert_same(tmp_path / "whole", tmp_path / "broken")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_says_how_to_go_on(tmp_path: Path, number: signal.Signals) -> None:
    output = tmp_path / "run"
    process = launch(output, tmp_path / "cache", quiet=False, pause=0.05)
    wait_for_steps(output, 2, process)
    process.send_signal(number)
    _, told = process.communicate(timeout=300)
    assert process.returncode == 130, told.decode()
    assert "--resume" in told.decode()
    assert record(output)["status"] == "interrupted"
    found, _ = checkpoints.latest(output)
    assert found is not None
    assert found.step == len(metrics(output)) >= 2
    assert not (output / "model").exists()
    assert finish(launch(output, tmp_path / "cache", resume=True)) == 0
    assert finish(launch(tmp_path / "whole", tmp_path / "cache")) == 0
    assert_same(tmp_path / "whole", output)


def test_broken_checkpoints_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = short(tmp_path / "whole", save_steps=2).output
    crash_after(7, monkeypatch)
    with pytest.raises(Stop):
        short(tmp_path / "broken", save_steps=2, keep_checkpoints=3)
    folders = sorted((tmp_path / "broken" / "checkpoints").iterdir())
    assert [folder.name for folder in folders] == ["step-00000002", "step-00000004", "step-00000006"]
    (folders[2] / "optimizer.safetensors").write_bytes(b"short")
    state = folders[1] / "state.json"
    state.write_text(state.read_text().replace("step", "stop"))
    (folders[0].parent / "step-00000099").mkdir()
    found, told = checkpoints.latest(tmp_path / "broken")
    assert found is not None
    assert found.step == 2
    assert len(told) == 3
    assert_same(whole, short(tmp_path / "broken", save_steps=2, resume=True).output)


def test_a_run_without_a_checkpoint_starts_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = short(tmp_path / "whole", save_steps=0).output
    crash_after(3, monkeypatch)
    with pytest.raises(Stop):
        short(tmp_path / "broken", save_steps=0)
    assert_same(whole, short(tmp_path / "broken", save_steps=0, resume=True).output)


def test_resuming_with_other_settings_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crash_after(3, monkeypatch)
    with pytest.raises(Stop):
        short(tmp_path / "run", save_steps=2)
    with pytest.raises(UserError, match=r"beta was 0.1, is 0.2; learning_rate was 0.02, is 0.03"):
        short(tmp_path / "run", resume=True, beta=0.2, learning_rate=0.03)
    short(tmp_path / "run", resume=True, micro_batch_size=2, save_steps=5, logging_steps=2)


def test_a_finished_run_has_nothing_to_resume(tmp_path: Path) -> None:
    first = short(tmp_path / "run")
    again = short(tmp_path / "run", resume=True)
    assert (again.status, again.steps, again.after) == (first.status, first.steps, first.after)


def test_early_stopping_ends_with_the_best_weights(tmp_path: Path) -> None:
    # The evaluation data says the opposite of the training data, so every step makes it worse.
    data = comparisons(40)
    opposite = [type(c)(f"o{c.id}", c.prompt, c.responses[::-1], c.edges) for c in comparisons(30, seed=11)]
    result = short(
        tmp_path / "run",
        data=data,
        eval_data=opposite,
        eval_steps=1,
        early_stopping_patience=3,
        epochs=50,
        learning_rate=0.2,
    )
    losses = [row["loss"] for row in metrics(tmp_path / "run", "eval")][1:]
    assert result.steps == len(losses) < 250
    assert result.after["loss"] == pytest.approx(min(losses), abs=1e-6)
    assert record(tmp_path / "run")["weights_of_step"] == losses.index(min(losses)) + 1


def test_saving_as_often_as_it_is_cheap() -> None:
    pace = checkpoints.Pace(share=0.05, first=60)
    assert not pace.due(59)
    assert pace.due(60)
    pace.took(30)
    assert not pace.due(569)
    assert pace.due(570)
    assert 30 / (30 + pace.wait) == pytest.approx(0.05)
