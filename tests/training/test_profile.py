"""Where the time went: phases in every row, and the profile that a flag asks for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from rather.policies.registry import register_policy
from rather.training import optimisation, profile
from rather.training.loop import Clock
from training.catalogue import CataloguePolicy
from training.runs import record, short

PHASES = {"data", "reference", "forward", "backward", "optimizer"}


def rows(output: Path) -> list[dict[str, float]]:
    found = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [row for row in found if row["split"] == "train"]


def test_each_row_splits_its_seconds_and_counts_its_positions(tmp_path: Path) -> None:
    for row in rows(short(tmp_path / "run", logging_steps=2).output):
        phases = {key.removeprefix("seconds/") for key in row if key.startswith("seconds/")}
        assert phases == PHASES
        assert row["seconds"] == pytest.approx(sum(row[f"seconds/{name}"] for name in PHASES))
        assert row["tokens/needed"] == row["tokens/computed"] == row["tokens"]
        assert "flops" not in row  # the catalogue cannot tell


def test_without_the_flag_nothing_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile, "matmul_peak", lambda *_: pytest.fail("measured"))
    found = record(short(tmp_path / "run").output)
    assert "profile" not in found
    assert found["seconds_outside"].keys() == {"reference scores", "evaluation"}


def test_a_policy_without_operations_has_tokens_and_seconds(tmp_path: Path) -> None:
    found = record(short(tmp_path / "run", profile=True).output)["profile"]
    assert found["seconds"].keys() == PHASES | {"reference scores", "evaluation"}
    assert found["waste"] == 1.0
    assert found["tokens_per_second"] > 0
    assert found["peak_memory_mb"] > 0
    assert not {"flops", "mfu", "peak_flops"} & found.keys()


def test_summary_is_the_arithmetic_of_the_rows() -> None:
    made = [
        {"split": "train", "seconds/forward": 1.0, "seconds/backward": 2.0, "tokens/needed": 60, "flops": 5e9}
        | {"tokens/computed": 90, "loss": None, "seconds_cpu": 3.0},
        {
            "split": "train",
            "seconds_cpu": 1.0,
            "seconds/forward": 1.0,
            "tokens/needed": 20,
            "tokens/computed": 30,
            "flops": 3e9,
        },
        {"split": "eval", "seconds/forward": 100.0, "tokens/needed": 1000},
    ]
    found = profile.summary(made, {"evaluation": 7.0}, 512.0, 10e9, 2)
    assert found == {
        "seconds": {"forward": 2.0, "backward": 2.0, "evaluation": 7.0},
        "tokens_per_second": 20.0,
        "waste": 1.5,
        "flops": 8e9,
        "mfu": 0.2,
        "peak_flops": 10e9,
        "threads": 2,
        "busy": 0.5,
        "mfu_busy": 0.4,
        "peak_memory_mb": 512.0,
    }
    shown = dict(map(tuple, profile.table(found)))
    assert shown["share of that peak (MFU)"] == "20.0%"
    assert shown["evaluation, s"] == "7.00 (64%)"
    assert profile.summary([], {}, None, None) == {"seconds": {}}
    assert profile.table({"seconds": {}}) == []


def test_peak_is_a_rate_of_this_machine() -> None:
    rate = profile.matmul_peak(torch.float32, torch.device("cpu"))
    assert 1e8 < rate < 1e15


def test_threads_and_allocator_are_set_before_anything_large_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    monkeypatch.setattr("rather.training.machine.prepare_cpu", lambda: order.append("machine"))

    def opened(settings: object) -> CataloguePolicy:
        order.append("model")
        return CataloguePolicy()

    register_policy("order_test", opened)  # type: ignore[arg-type]
    short(tmp_path / "run", model="order_test:x", max_steps=1)
    assert order == ["machine", "model"]


def test_clock_adds_what_lies_between_laps(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 1.0, 3.0, 3.5])
    monkeypatch.setattr("time.perf_counter", lambda: next(times))
    clock = Clock(torch.device("cpu"))
    for name in ("a", "b", "a"):
        clock.lap(name)
    assert clock.seconds == {"a": 1.5, "b": 2.0}


@pytest.mark.parametrize("bound", [0.0, 0.5, 1.0, 100.0])
def test_clipping_equals_torchs_own(bound: float) -> None:
    torch.manual_seed(0)
    ours = [
        torch.nn.Parameter(torch.randn(7, 3)),
        torch.nn.Parameter(torch.randn(5)),
        torch.nn.Parameter(torch.ones(2)),
    ]
    theirs = [torch.nn.Parameter(p.detach().clone()) for p in ours]
    for a, b in zip(ours[:2], theirs[:2], strict=True):  # the last one has no gradient
        a.grad = torch.randn_like(a)
        b.grad = a.grad.clone()
    norm = optimisation.clip(ours, bound)
    expected = torch.nn.utils.clip_grad_norm_(theirs, bound or float("inf"))
    assert norm == pytest.approx(float(expected))
    for a, b in zip(ours[:2], theirs[:2], strict=True):
        assert a.grad is not None and b.grad is not None
        assert torch.equal(a.grad, b.grad)
