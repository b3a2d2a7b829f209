"""Methods that look into the model, in the loop: tiny language models, learned masks, weights from the data."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from rather.data.types import Comparison, Edge
from rather.errors import UserError
from rather.training import checkpoints, loop
from rather.training.config import TrainConfig
from rather.training.references import choose
from tiny import WORDS, tiny_model
from training.catalogue import CataloguePolicy
from training.catalogue import comparisons as items
from training.runs import metrics, record, short
from training.test_processes import two

SETTINGS: dict[str, Any] = {
    "precision": "fp32",
    "samples": False,
    "batch_size": 4,
    "epochs": 1,
    "learning_rate": 3e-3,
    "eval_fraction": 0.25,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_model(tmp_path_factory.mktemp("model") / "llama")


def answers(number: int = 24) -> list[Comparison]:
    """Pairs of JSON answers that differ in one value; the preferred code is the prompt's own word."""
    words = sorted({word for word in WORDS.split() if word.isalpha() and word.islower()})
    made = []
    for index in range(number):
        code, other = words[index], words[-1 - index]
        texts = tuple(json.dumps({"Code": each, "Span": "the river"}) for each in (code, other))
        made.append(Comparison(f"a{index}", ({"role": "user", "content": code},), texts, (Edge(0, 1),)))
    return made


def written(path: Path) -> Path:
    """The answers as a file."""
    rows = [
        {"id": c.id, "prompt": list(c.prompt), "chosen": c.responses[0], "rejected": c.responses[1]} for c in answers()
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(output: Path, model: str, method: str, **options: Any) -> Any:
    return short(output, model=model, data=answers(), method=method, **{**SETTINGS, **options})


def objective_state(output: Path) -> dict[str, torch.Tensor]:
    found, _ = checkpoints.latest(output)
    assert found is not None
    return found.tensors("objective")


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("method", ["sparsepo", "mapo_tokens", "tdpo", "tab_po"])
def test_a_short_run_learns(tmp_path: Path, model: str, method: str, lora: bool) -> None:
    options: dict[str, Any] = {"beta": 0.5, "epochs": 3, "lora": lora, "labels.flip_rate": 0.1}
    result = run(tmp_path / "run", model, method, **options)
    kind = record(tmp_path / "run")["reference"]
    assert kind == ("cached" if method == "tab_po" else "adapters" if lora else "frozen")
    losses = [row["loss"] for row in metrics(tmp_path / "run")]
    assert losses[-1] < losses[0]
    assert result.after["rewards/margins"] > result.before["rewards/margins"]
    assert result.before["rewards/margins"] == pytest.approx(0.0, abs=1e-5)


def test_sparsity_is_logged_from_the_start(tmp_path: Path, model: str) -> None:
    result = run(tmp_path / "run", model, "sparsepo", mask_dropout=0.0)
    (first, *_) = metrics(tmp_path / "run", "eval")
    assert first["step"] == 0
    assert (first["mask/reward_zero"], first["mask/kl_zero"]) == (0.0, 0.0), "no unit is dead"
    assert (first["mask/reward"], first["mask/kl"]) == (1.0, 1.0)
    assert first["kl/token"] == pytest.approx(0.0, abs=1e-6)
    assert result.after["mask/reward"] != 1.0
    assert result.after["kl/token"] > 0
    rows = metrics(tmp_path / "run")
    assert all({"mask/reward", "mask/kl_zero", "kl/token"} <= row.keys() for row in rows)


def test_what_is_gated_is_logged(tmp_path: Path, model: str) -> None:
    run(tmp_path / "run", model, "tab_po", tau=0.5, epochs=10, learning_rate=1e-2)
    rows = metrics(tmp_path / "run")
    assert 0 < rows[-1]["barrier/gated"] < rows[0]["barrier/gated"] <= 1


def test_the_world_of_annotations(tmp_path: Path, model: str) -> None:
    result = short(
        tmp_path / "run", model=model, data="world:annotations?pairs=16", method="tab_po", **{**SETTINGS, "epochs": 3}
    )
    losses = [row["loss"] for row in metrics(tmp_path / "run")]
    assert losses[-1] < losses[0]
    assert result.after["logps/chosen"] > result.before["logps/chosen"]


class Stop(Exception):
    pass


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("method", ["sparsepo", "tab_po"])
def test_resuming_with_masks_changes_nothing(
    tmp_path: Path, model: str, method: str, lora: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Masks with dropout, their optimizer state and the adapters: the same to the last bit."""
    options: dict[str, Any] = {"lora": lora, "save_steps": 2, "epochs": 2, "keep_checkpoints": 9}
    if method == "sparsepo":
        options |= {"mask_dropout": 0.2, "l1_reward": 0.01, "optimizer": "adamw", "weight_decay": 0.1}
    run(tmp_path / "whole", model, method, **options)
    taken = loop.Loop.step

    def step(self: loop.Loop, number: int) -> loop.Step:
        if number == 5:
            raise Stop
        return taken(self, number)

    monkeypatch.setattr(loop.Loop, "step", step)
    with pytest.raises(Stop):
        run(tmp_path / "broken", model, method, **options)
    monkeypatch.setattr(loop.Loop, "step", taken)
    run(tmp_path / "broken", model, method, **options, resume=True)
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "broken")
    name = "adapter_model.safetensors" if lora else "model.safetensors"
    one, other = (load_file(tmp_path / side / "model" / name) for side in ("whole", "broken"))
    assert all(torch.equal(one[key], other[key]) for key in one)
    states = [objective_state(tmp_path / side) for side in ("whole", "broken")]
    assert states[0].keys() == states[1].keys()
    assert bool(states[0]) == (method == "sparsepo")
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    if method == "sparsepo":
        assert any(float((value - 1).abs().max()) > 1e-4 for value in states[0].values()), "masks were trained"


@pytest.mark.parametrize("method", ["sparsepo", "tab_po"])
def test_how_a_step_is_split_changes_nothing(tmp_path: Path, model: str, method: str) -> None:
    options: dict[str, Any] = {"mask_dropout": 0.0} if method == "sparsepo" else {}
    rows = [
        metrics(run(tmp_path / str(size), model, method, micro_batch_size=size, **options).output) for size in (1, 4)
    ]
    for one, other in zip(*rows, strict=True):
        assert one.keys() == other.keys()
        for name in one.keys() - {"split"}:
            assert one[name] == pytest.approx(other[name], rel=2e-3, abs=1e-5), name


@pytest.mark.slow
@pytest.mark.parametrize("lora", [False, True])
def test_two_processes_are_one(tmp_path: Path, model: str, lora: bool) -> None:
    """Masks are trained and averaged like the model, with a frozen reference and with adapters switched off."""
    data = written(tmp_path / "data.jsonl")
    flags = ["--model", model, "--data", str(data), "--method", "sparsepo", "--mask_dropout", "0", "--save-steps", "1"]
    flags += [
        "--precision",
        "fp32",
        "--no-samples",
        "--batch-size",
        "4",
        "--optimizer",
        "sgd",
        "--learning-rate",
        "0.1",
    ]
    flags += ["--quiet", *(["--lora"] if lora else [])]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    for name, launcher in (("one", []), ("two", two())):
        command = [sys.executable, *launcher, "-m", "rather", "train", *flags, "--output", str(tmp_path / name)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
    for split in ("train", "eval"):
        rows = [metrics(tmp_path / name, split) for name in ("one", "two")]
        for left, right in zip(*rows, strict=True):
            for key in left.keys() - {"split", "rewards/accuracies"}:
                assert left[key] == pytest.approx(right[key], rel=1e-3, abs=1e-5), (left["step"], key)
    one, other = (objective_state(tmp_path / name) for name in ("one", "two"))
    assert one.keys() == other.keys()
    assert all(float((one[key] - other[key]).abs().max()) < 1e-6 for key in one)
    assert any(float(value.abs().max()) > 1e-7 for name, value in one.items() if name.endswith("weight"))


def test_masks_have_their_own_decay_and_the_models_rate(model: str) -> None:
    from rather.methods.registry import get
    from rather.training.optimisation import build_optimizer

    objective = get("sparsepo").objective(mask_weight_decay=0.3)
    objective.prepare({"width": 4, "layers": 2})
    config = TrainConfig(model=model, data="d", learning_rate=1e-3, weight_decay=0.1)
    groups = build_optimizer(torch.nn.Linear(3, 3), objective, config).param_groups
    told = [(group["params"][0].dim(), group["lr"], group["weight_decay"]) for group in groups]
    assert told == [(2, 1e-3, 0.1), (1, 1e-3, 0.0), (2, 1e-3, 0.3), (1, 1e-3, 0.0)]
    apart = TrainConfig(model=model, data="d", learning_rate=1e-3, objective_learning_rate=0.5)
    assert build_optimizer(torch.nn.Linear(3, 3), objective, apart).param_groups[-1]["lr"] == 0.5


def test_a_reference_has_to_be_at_hand_and_still() -> None:
    layers = frozenset({"layers"})
    for kind in ("cached", "ema", "sync"):
        config = TrainConfig(model="m", data="d", reference=kind)  # type: ignore[arg-type]
        with pytest.raises(UserError, match="needs layers of the reference, not only its scores"):
            choose(config, True, False, False, layers)
    auto = TrainConfig(model="m", data="d")
    assert choose(auto, True, False, False, layers) == "frozen"
    assert choose(auto, True, True, False, layers) == "adapters"


def test_a_model_without_states_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs kl, layers, states of each token, which this model does not give"):
        short(tmp_path / "run", policy=CataloguePolicy(), data=items(), method="sparsepo")
    with pytest.raises(UserError, match="needs weight of each token"):
        short(tmp_path / "run", policy=CataloguePolicy(), data=items(), method="tab_po")
    assert not (tmp_path / "run").exists()


def test_a_finished_run_can_be_scored_anew(tmp_path: Path, model: str) -> None:
    from rather.report.rescore import rescore
    from rather.report.run_folder import read_run

    data = written(tmp_path / "data.jsonl")
    result = short(
        tmp_path / "run", model=model, data=str(data), method="sparsepo", **{**SETTINGS, "save_steps": 1, "epochs": 2}
    )
    found = rescore(read_run(tmp_path / "run"), show=False)
    assert found["after"]["loss"] == pytest.approx(result.after["loss"], abs=1e-5)
    assert found["after"]["mask/reward"] == pytest.approx(result.after["mask/reward"], abs=1e-5)
