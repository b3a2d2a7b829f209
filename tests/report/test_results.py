"""Before/after rows and the verdict."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from rather.report import findings, results
from rather.report.run_folder import RunFolder


def run_of(evaluation: dict[str, Any] | None = None, **parts: Any) -> RunFolder:
    return RunFolder(Path("run"), evaluation=evaluation or {}, **parts)


@pytest.mark.parametrize(
    "table",
    [
        {"accuracy": 0.7, "accuracy/interval": [0.6, 0.8]},
        {"accuracy": 0.7, "accuracy_interval": [0.6, 0.8]},
        {"accuracy": {"value": 0.7, "interval": [0.6, 0.8]}},
        {"accuracy": [0.7, 0.6, 0.8]},
    ],
)
def test_intervals_are_read_in_every_shape(table: dict[str, Any]) -> None:
    assert results.estimate(table, "accuracy") == results.Estimate(0.7, 0.6, 0.8)


def test_rows_have_changes_in_points_and_in_units() -> None:
    rows = results.rows({"before": {"accuracy": 0.5, "loss": 0.7, "n": 10}, "after": {"accuracy": 0.75, "loss": 0.5}})
    assert [(row.key, row.change) for row in rows] == [("accuracy", "+25.0 points"), ("loss", "−0.2")]


def test_world_rows_overall_first_and_in_either_shape() -> None:
    world = {"before": {"pass_rate": 0.2, "colour": 0.3}, "after": {"pass_rate": 0.4, "colour": 0.5}}
    assert [row.label for row in results.world_rows({"world": world})] == [
        "World pass rate",
        "World pass rate: colour",
    ]
    flat = {"before": 0.2, "after": {"value": 0.4, "interval": [0.3, 0.5]}}
    (row,) = results.world_rows({"world": flat})
    assert row.after == results.Estimate(0.4, 0.3, 0.5)


def test_a_paired_change_decides_where_two_intervals_would_overlap() -> None:
    before = {"pass_rate": {"rate": 0.2, "interval": [0.15, 0.27]}}
    changed = {"rate": 0.3, "interval": [0.24, 0.37], "change": 0.1, "change/interval": [0.02, 0.18]}
    (row,) = results.world_rows({"world": {"before": before, "after": {"pass_rate": changed}}})
    assert row.change == "+10.0 points (2.0 to 18.0)"
    assert row.apart == 1
    told = findings.verdict(run_of({"world": {"before": before, "after": {"pass_rate": changed}}}), [row])
    assert told.tone == "good"
    assert "answer by answer" in told.sentences[0]
    changed |= {"change/interval": [-0.01, 0.21]}
    (row,) = results.world_rows({"world": {"before": before, "after": {"pass_rate": changed}}})
    assert row.apart == 0
    assert "holds zero" in findings.verdict(run_of(), [row]).sentences[-1]


@pytest.mark.parametrize(
    ("before", "after", "tone", "words"),
    [
        ([0.5, 0.45, 0.55], [0.7, 0.65, 0.75], "good", "Better, beyond"),
        ([0.5, 0.45, 0.55], [0.52, 0.47, 0.57], "plain", "no clear change"),
        ([0.5, 0.45, 0.55], [0.3, 0.25, 0.35], "poor", "Worse, beyond"),
        (None, [0.7, 0.65, 0.75], "good", "Better than chance"),
        (None, [0.52, 0.47, 0.57], "plain", "Not distinguishable from chance"),
    ],
)
def test_the_verdict_follows_the_intervals(before: Any, after: Any, tone: str, words: str) -> None:
    evaluation = {"before": {"accuracy": before} if before else {}, "after": {"accuracy": after, "n": 200}}
    run = run_of(evaluation)
    verdict = findings.verdict(run, results.rows(evaluation))
    assert verdict.tone == tone
    assert words in verdict.sentences[0]
    assert "200 pairs" in verdict.sentences[0]


def test_a_worse_world_makes_the_verdict_poor_whatever_the_ranking() -> None:
    evaluation = {
        "before": {"accuracy": [0.5, 0.45, 0.55]},
        "after": {"accuracy": [0.7, 0.65, 0.75]},
        "world": {"before": {"pass_rate": [0.5, 0.4, 0.6]}, "after": {"pass_rate": [0.2, 0.1, 0.3]}},
    }
    verdict = findings.verdict(run_of(evaluation), results.rows(evaluation))
    assert verdict.tone == "poor"
    assert len(verdict.sentences) == 2


def titles(run: RunFolder) -> list[str]:
    return [notice.title for notice in findings.notices(run, results.rows(run.evaluation))]


def test_displacement_is_told_from_training_only_when_it_is_above_noise() -> None:
    def rows(fall: float, noise: float) -> list[dict[str, Any]]:
        return [
            {
                "step": i,
                "split": "train",
                "logps/chosen": -100 - fall * i / 100 + noise * (-1) ** i,
                "rewards/margins": i / 100,
            }
            for i in range(1, 101)
        ]

    assert "The chosen answers became less likely" in titles(run_of(metrics=rows(20, 1)))
    assert "The chosen answers became less likely" not in titles(run_of(metrics=rows(2, 40)))
    assert "The chosen answers became less likely" not in titles(run_of(metrics=rows(-20, 1)))


def test_displacement_suggests_sft_as_an_option_only_where_the_method_has_it() -> None:
    evaluation = {
        "before": {"logps/chosen": -100.0, "margins": 0.0},
        "after": {"logps/chosen": -120.0, "margins": 1.0},
    }
    for options, found in (({"sft": 0.0}, True), ({}, False)):
        run = run_of(evaluation, run={"method": {"options": options}})
        notice = findings.notices(run, results.rows(evaluation))[0]
        assert ("--sft" in notice.tries[0]) is found


def test_not_finite_values_are_named_with_their_first_step() -> None:
    rows = [{"step": i, "split": "train", "loss": math.nan if i > 3 else 0.5} for i in range(1, 6)]
    notice = findings.notices(run_of(metrics=rows), [])[0]
    assert "loss (train): 2 of 5, first at step 4" in notice.text


@pytest.mark.parametrize("status", ["interrupted", "failed", "running"])
def test_an_unfinished_run_says_so(status: str) -> None:
    run = run_of(run={"status": status, "error": "Out of memory."}, metrics=[{"step": 7, "loss": 1.0}])
    notice = findings.notices(run, [])[0]
    assert "step 7" in notice.text
    assert ("Out of memory." in notice.text) is (status == "failed")


def test_a_gap_between_training_and_held_out_is_told() -> None:
    rows: list[dict[str, Any]] = [{"step": i, "split": "train", "rewards/accuracies": 0.95} for i in range(1, 50)]
    rows += [{"step": 10 * i, "split": "eval", "rewards/accuracies": 0.6, "loss": 0.5 + 0.1 * i} for i in range(1, 5)]
    run = run_of(metrics=rows)
    text = next(n.text for n in findings.notices(run, []) if n.title.startswith("Training and held-out"))
    assert "least (0.6) at step 10" in text


def test_lengths_that_belong_to_the_data_are_no_result() -> None:
    same = {"before": {"length/chosen": 10.0}, "after": {"length/chosen": 10.0}}
    assert results.rows(same) == []
    moved = {"before": {"length/sampled": 10.0}, "after": {"length/sampled": 12.0}}
    assert [row.label for row in results.rows(moved)] == ["Length of sampled answers, tokens"]


@pytest.mark.parametrize(("chosen", "rejected", "word"), [(80, 50, "longer"), (50, 80, "shorter"), (52, 50, None)])
def test_a_length_bias_is_told(chosen: float, rejected: float, word: str | None) -> None:
    rows = [{"step": i, "split": "train", "length/chosen": chosen, "length/rejected": rejected} for i in range(1, 5)]
    found = [title for title in titles(run_of(metrics=rows)) if "than rejected ones" in title]
    assert found == ([f"Chosen answers are {word} than rejected ones"] if word else [])


def test_cut_data_is_told() -> None:
    def run(**encoding: int) -> RunFolder:
        return run_of(run={"status": "finished", "data": {"train": {"encoding": encoding}}})

    (notice,) = findings.notices(run(comparisons=100, encoded=80, truncated=40), [])
    assert notice.text == "50.0% of the training comparisons are truncated and 20.0% could not be used."
    assert findings.notices(run(comparisons=100, encoded=98, truncated=2), []) == []
