"""Two processes give what one gives at the same global batch, whole (DDP) and sharded (FSDP2)."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rather.training import checkpoints
from tiny import tiny_model
from training.catalogue import PARTS
from training.runs import metrics, record, weights

WORKER = Path(__file__).with_name("worker.py")
SETTINGS = {
    "number": 45,
    "batch_size": 7,
    "epochs": 3,
    "max_tokens": 14,
    "method": "rdpo",
    "sft": 0.2,
    "save_steps": 4,
}


def run(output: Path, cache: Path, launcher: list[str], **options: Any) -> None:
    launch(output, cache, launcher, **{**SETTINGS, **options})


def launch(output: Path, cache: Path, launcher: list[str], **options: Any) -> None:
    """A run of the worker with these options alone."""
    own = {"RATHER_CACHE": str(cache), "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    environment = {**os.environ, **own}
    command = [sys.executable, *launcher, str(WORKER), json.dumps({"output": str(output), **options})]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def two() -> list[str]:
    # `accelerate launch --cpu` needs MPI for more than one process; on GPUs it calls torchrun, so torchrun it is.
    return [
        "-m",
        "torch.distributed.run",
        "--nproc_per_node",
        "2",
        "--master_addr",
        "127.0.0.1",
        "--master_port",
        port(),
    ]


def assert_equal(one: Path, other: Path) -> None:
    a, b = weights(one), weights(other)
    for name in a:
        assert float((a[name] - b[name]).abs().max()) < 1e-5, name
    for split in ("train", "eval"):
        for left, right in zip(metrics(one, split), metrics(other, split), strict=True):
            names = left.keys() - {"split"} - ({"rewards/accuracies"} if left["step"] <= 1 else set())
            for name in names:
                assert left[name] == pytest.approx(right[name], rel=1e-5, abs=1e-5), (left["step"], name)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [{}, {"reference": "ema", "ref_decay": 0.7, "optimizer": "sgd"}], ids=["cached", "ema"]
)
def test_two_processes_equal_one(tmp_path: Path, options: dict[str, Any]) -> None:
    run(tmp_path / "one", tmp_path / "cache1", [], **options)
    run(tmp_path / "two", tmp_path / "cache2", two(), **options)
    assert record(tmp_path / "two")["world_size"] == 2
    assert_equal(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["power_dl", "dynamicpo-15", "labels-of-lists"])
def test_two_processes_have_one_set_of_moving_parts(tmp_path: Path, name: str) -> None:
    options = {"sft": 0.0, **PARTS[name]}
    run(tmp_path / "one", tmp_path / "cache", [], **options)
    run(tmp_path / "two", tmp_path / "cache", two(), **options)
    assert record(tmp_path / "two")["world_size"] == 2
    assert_equal(tmp_path / "one", tmp_path / "two")
    left, right = (checkpoints.latest(tmp_path / folder)[0] for folder in ("one", "two"))
    assert left is not None
    assert right is not None
    tables = [found.tensors("objective") for found in (left, right)]
    assert tables[0].keys() == tables[1].keys()
    assert bool(tables[0]) is (name != "dynamicpo-15")
    for entry, tensor in tables[0].items():
        assert tensor.numel() > 30
        assert float((tensor - tables[1][entry]).abs().max()) < 1e-5, entry


@pytest.mark.slow
def test_further_responses_and_a_head_of_the_objective(tmp_path: Path) -> None:
    """A tiny language model: contrasts, and a head that some micro-batches have nothing for."""
    options = {"model": tiny_model(tmp_path / "tiny"), "data": "world:instructions", "limit": 21, "epochs": 2}
    options |= {"method": "mapl+degree_spo", "max_tokens": 900, "precision": "fp32", "learning_rate": 1e-3}
    options |= {"samples": False}
    run(tmp_path / "one", tmp_path / "cache1", [], **options)
    run(tmp_path / "two", tmp_path / "cache2", two(), **options)
    assert record(tmp_path / "two")["world_size"] == 2
    assert_equal(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
def test_sharded_weights_equal_whole_ones(tmp_path: Path) -> None:
    """FSDP2 on two CPU processes; what it saves is whole, as one process saves it."""
    run(tmp_path / "one", tmp_path / "cache1", [])
    run(tmp_path / "two", tmp_path / "cache2", two(), shard=True, model="catalogue:plain")
    assert_equal(tmp_path / "one", tmp_path / "two")
    left, right = (checkpoints.latest(tmp_path / name)[0] for name in ("one", "two"))
    assert left is not None
    assert right is not None
    assert left.tensors("optimizer").keys() == right.tensors("optimizer").keys()
    for name, tensor in left.tensors("optimizer").items():
        assert float((tensor - right.tensors("optimizer")[name]).abs().max()) < 1e-5, name
