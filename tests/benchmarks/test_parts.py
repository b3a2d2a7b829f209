"""Tokens, ratios, slopes and the table of targets: what the commands' numbers are made by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import cases, command, compare, models, page, page_peers, peers, tokens
from benchmarks.job import Job
from rather.errors import UserError
from tiny import tiny_tokenizer


def result(seconds: list[float], losses: list[float] | None = None, **changes: Any) -> dict[str, Any]:
    losses = losses or [0.7] * len(seconds)
    found = {
        "steps": [{"wall": s, "cpu": 2 * s, "loss": x, "positions": 30} for s, x in zip(seconds, losses, strict=True)],
        "needed": [20] * len(seconds),
        "reference": {"wall": 3.0, "cpu": 6.0},
        "memory": {"loaded": 100.0, "peak": 150.0, "above": 50.0},
        "scoring": None,
        "parameters": {"total": 12, "trained": 12, "body": 10},
        "device": "cpu",
        "reference_logps": [[-5.0, -7.0]],
        "notes": [],
    }
    return found | changes


def test_real_pairs_are_cut_and_ordered_by_preference() -> None:
    found = tokens.real("world:instructions", tiny_tokenizer(), number=6, max_length=300, seed=1)
    assert len(found) == 6 and len({each.id for each in found}) == 6
    assert all(len(each.prompt) + max(map(len, each.responses)) <= 300 and each.pairs == 1 for each in found)
    assert found == tokens.real("world:instructions", tiny_tokenizer(), number=6, max_length=300, seed=1)
    assert found != tokens.real("world:instructions", tiny_tokenizer(), number=6, max_length=300, seed=2)


def test_too_few_pairs_are_a_users_mistake() -> None:
    with pytest.raises(UserError, match="are needed"):
        tokens.real("world:instructions", tiny_tokenizer(), number=10**6, max_length=300, seed=1)


def test_synthetic_comparisons_have_exactly_the_shape_and_no_special_token(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    usual = tokens.usual_ids(tokenizer)
    assert not set(usual.tolist()) & set(tokenizer.all_special_ids)
    rows = tokens.synthetic(usual, number=2, prompt=7, answer=3, negatives=4)
    assert [(len(r.prompt), [len(x) for x in r.responses], r.pairs, r.needed) for r in rows] == [
        (7, [3] * 5, 4, 22)
    ] * 2
    assert tokens.read(tokens.save(tmp_path / "t.json", rows)) == rows
    comparison = rows[0].comparison()
    assert [(e.winner, e.loser) for e in comparison.edges] == [(0, 1), (0, 2), (0, 3), (0, 4)]


def test_ratios_are_taken_repeat_by_repeat() -> None:
    ours = [result([9.0, 1.0, 1.0]), result([9.0, 2.0, 4.0])]
    theirs = [result([0.1, 4.0, 4.0]), result([0.1, 6.0, 6.0])]
    spread = compare.ratios(ours, theirs, lambda each: compare.step_seconds(each, "wall", 1))
    assert (spread.least, spread.median, spread.most) == (2.0, 3.0, 4.0)
    # 3 seconds of reference over 3 steps add one to each
    assert compare.epoch_seconds(ours[1], "wall", 1) == 4.0
    assert compare.epoch_seconds(result([9.0, 3.0], reference=None), "wall", 1) == 3.0
    assert compare.computed(ours[0]) == 1.5


def test_loss_difference_is_the_largest_of_any_step() -> None:
    ours, theirs = [result([1, 1], [0.5, 0.6]), result([1, 1], [0.5, 0.7])], [result([1, 1], [0.5, 0.65])] * 2
    assert compare.loss_difference(ours, theirs) == pytest.approx(0.05)
    assert compare.mean_loss_difference(ours, theirs) == pytest.approx(0)


def test_log_probabilities_differ_beyond_a_share() -> None:
    ours, theirs = [result([1])], [result([1], reference_logps=[[-5.5, -10.0]])]
    assert compare.logps_difference(ours, theirs) == pytest.approx(3.0)
    assert compare.logps_difference(ours, theirs, 0.1) == pytest.approx(2.0)
    assert compare.logps_difference(ours, [result([1], reference_logps=None)]) is None


@pytest.mark.parametrize(
    ("dtype", "real", "loss", "logp", "problems"),
    [
        ("fp32", True, 0.7, -5.0, 0),
        ("fp32", False, 0.702, -5.0, 1),
        ("bf16", True, 0.702, -5.0, 0),
        ("bf16", True, 0.72, -5.0, 1),
        ("bf16", False, 0.72, -5.0, 0),
        ("bf16", False, 0.7, -7.0, 1),
        ("fp32", True, 0.7, -5.1, 1),
    ],
)
def test_what_contenders_may_disagree_about(dtype: str, real: bool, loss: float, logp: float, problems: int) -> None:
    ours, theirs = [result([1.0])], [result([1.0], [loss], reference_logps=[[logp, -7.0]])]
    case = {
        "real": real,
        "results": {"rather": ours, "trl best": theirs},
        "loss_difference": {"trl best": compare.loss_difference(ours, theirs)},
        "logps_difference": {"trl best": compare.logps_difference(ours, theirs)},
    }
    assert len(peers._problems(case, dtype)) == problems


def test_slope_is_the_exponent() -> None:
    sizes = [2, 4, 8, 16]
    assert compare.slope(sizes, [5 * n**1.5 for n in sizes]) == pytest.approx(1.5)
    assert compare.slope(sizes, [7] * 4) == pytest.approx(0, abs=1e-12)


def test_model_flops_of_whole_and_of_adapters() -> None:
    assert compare.model_flops(result([1.0]), 5) == 6 * 10 * 5
    assert compare.model_flops(result([1.0], parameters={"total": 13, "trained": 3, "body": 10}), 5) == 4 * 10 * 5


def test_every_target_is_about_a_case_and_a_contender_of_it() -> None:
    by_name = {case.name: case for case in cases.CASES}
    for target in cases.TARGETS:
        case = by_name[target.case]
        assert {target.peer, target.ours} <= set(case.contenders)
        pairs = case.batch * case.negatives
        assert case.peer_batch is None or pairs % case.peer_batch == 0


def peers_file(seconds: float) -> dict[str, Any]:
    """The numbers of a run in which the peer took ``seconds`` to our one."""
    case = {
        "name": "full",
        "title": "real pairs",
        "batch": 8,
        "data": {"comparisons": 16, "pairs": 16, "prompt_tokens": 3.0, "answer_tokens": 4.0, "longest": 9},
        "results": {"rather": [result([1.0, 1.0])], "trl best": [result([1.0, seconds])]},
        "real": True,
        "loss_difference": {"trl best": 0.0},
        "logps_difference": {"trl best": 0.0},
    }
    return {
        "command": "python -m benchmarks.peers",
        "note": "",
        "in_process": False,
        "environment": {
            "date": "2026-01-01", "cpu": "a processor", "cores": 2, "threads": 1, "gpu": None, "peak_tflops": None,
            "system": "Linux", "load": 0.0, "versions": {"torch": "2"},
        },
        "model": "m", "pairs": "p.jsonl", "max_length": 512, "precision": "bf16", "warmup": 1, "cases": [case],
    }  # fmt: skip


@pytest.mark.parametrize(("seconds", "verdict"), [(3.4, "**not met**"), (3.6, "met")])
def test_page_says_whether_a_target_is_met(tmp_path: Path, seconds: float, verdict: str) -> None:
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    (folder / "peers.json").write_text(json.dumps(peers_file(seconds)))
    text = page.build(tmp_path).read_text()
    (row,) = [line for line in text.splitlines() if "time of a step | TRL at its best" in line]
    assert row.endswith(f"| at least 3.5 | {seconds:.2f} | {verdict} |")
    (row,) = [line for line in text.splitlines() if "positions computed" in line]
    assert row.endswith("| at most 1.05 | 1.50 | **not met** |")
    assert "a processor, 1 of 2 cores" in text
    assert all((folder / f"peers-{theme}.svg").is_file() for theme in ("light", "dark"))


def test_with_a_gpu_the_wall_clock_judges_and_utilisation_is_told() -> None:
    found = peers_file(4.0)
    found["environment"] |= {"gpu": "NVIDIA H100 80GB HBM3", "peak_tflops": 989.0}
    assert page_peers.judged_by(found) == "wall"
    row = page_peers._raw(found)[0]
    assert row[-1] == "0.0%" and page_peers._speed_header(found)[-1] == "MFU"


def test_command_line_hides_where_things_lie() -> None:
    assert command.command_line("peers", ["--pairs", "/home/me/pairs.jsonl", "--steps", "2"]) == (
        "python -m benchmarks.peers --pairs pairs.jsonl --steps 2"
    )


def test_random_models_of_a_size(tmp_path: Path, model: str) -> None:
    from transformers import AutoModelForCausalLM

    folder = models.folder_of("random:tiny", tmp_path, tokenizer=model)
    loaded = AutoModelForCausalLM.from_pretrained(folder)
    assert loaded.config.hidden_size == models.SIZES["tiny"]["hidden_size"]
    assert models.folder_of(model, tmp_path) == model
    with pytest.raises(UserError, match="did you mean 'tiny'"):
        models.folder_of("random:tinny", tmp_path)


def test_a_job_survives_its_file(tmp_path: Path) -> None:
    job = Job("trl best", "m", "t", 8, 2, settings={"max_tokens": 5})
    assert Job.read(job.save(tmp_path / "job.json")) == job and job.total == 3


def test_slope_needs_no_positive_value() -> None:
    assert np.isfinite(compare.slope([1, 2], [0.0, 1.0]))
