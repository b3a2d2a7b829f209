"""The step: how it is cut changes nothing, guards stand before the optimizer, a run learns."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rather.data.types import Comparison, Edge
from rather.errors import UserError
from rather.objectives.scores import Scores, stable_key
from training.catalogue import CataloguePolicy, comparisons
from training.runs import metrics, record, short, weights


def largest_difference(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def test_a_run_learns_what_the_data_says(tmp_path: Path) -> None:
    data = comparisons(200)
    result = short(tmp_path / "run", data=data, epochs=12, learning_rate=0.05, eval_fraction=0.25)
    assert result.before["accuracy"] == 0.5, "policy and reference are the same: every pair is a tie"
    assert result.before["loss"] == pytest.approx(0.693147, abs=1e-6)
    assert result.before["rewards/margins"] == 0.0
    assert result.before["kl"] == 0.0
    assert result.after["accuracy"] > 0.6
    assert result.after["kl"] > 0.01


def test_pairs_in_the_undesirable_set_are_counted(tmp_path: Path) -> None:
    """A step up from a reference that orders pairs wrongly leads into the set; before it, and without one, none is."""
    run = short(tmp_path / "run", epochs=1, learning_rate=0.003)
    rows = metrics(run.output)
    assert rows[0]["frac_in_U"] == 0.0
    assert run.before["frac_in_U"] == 0.0
    assert all(0 <= row["frac_in_U"] <= 1 for row in rows)
    assert any(row["frac_in_U"] > 0 for row in rows)
    evaluation = json.loads((run.output / "evaluation.json").read_text())
    assert 0 < evaluation["after"]["frac_in_U"] <= 1 - run.after["accuracy/logps"]
    free = short(tmp_path / "free", epochs=1, method="simpo")
    assert "frac_in_U" not in metrics(free.output)[-1]
    assert "frac_in_U" not in free.after


def test_parts_tell_their_numbers_to_the_metrics(tmp_path: Path) -> None:
    run = short(tmp_path / "run", epochs=3, method="power_dl", gamma=0.5)
    labels = [row["labels/label"] for row in metrics(run.output)]
    assert all(0 < label < 1 for label in labels)
    assert labels[-1] < labels[0] < 1
    assert 0 < run.after["labels/label"] < 1


class Bucketed(CataloguePolicy):
    """Comparisons of three buckets, which cannot be in one batch."""

    def encode(self, comparisons: Any) -> Any:
        return [replace(item, bucket=stable_key(item.comparison.id) % 3) for item in super().encode(comparisons)]

    def collate(self, encoded: Any) -> Any:
        assert len({item.bucket for item in encoded}) == 1
        return super().collate(encoded)


@pytest.mark.parametrize("reference", ["cached", "frozen"])
def test_buckets_change_nothing(tmp_path: Path, reference: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training, reference scores and evaluation keep buckets apart; the run is the same to rounding."""
    options = {"reference": reference, "optimizer": "sgd", "learning_rate": 0.1, "eval_steps": 2}
    plain = short(tmp_path / "plain", **options)
    monkeypatch.setenv("RATHER_CACHE", str(tmp_path / "another"))  # so that reference scores are computed anew
    apart = short(tmp_path / "apart", policy=Bucketed(), **options)
    assert largest_difference(weights(plain.output), weights(apart.output)) < 1e-5
    for split in ("train", "eval"):
        for left, right in zip(metrics(plain.output, split), metrics(apart.output, split), strict=True):
            assert left["loss"] == pytest.approx(right["loss"], abs=1e-6)


@pytest.mark.parametrize("method", ["dpo", "rdpo"])
@pytest.mark.parametrize("cutting", [{"micro_batch_size": 4}, {"micro_batch_size": 1}, {"max_tokens": 11}])
def test_accumulation_changes_nothing(tmp_path: Path, method: str, cutting: dict[str, Any]) -> None:
    options = {"method": method, "sft": 0.3, "optimizer": "sgd", "learning_rate": 0.1}
    whole = short(tmp_path / "whole", **options).output
    parts = short(tmp_path / "parts", **options, **cutting).output
    assert largest_difference(weights(whole), weights(parts)) < 1e-6
    for a, b in zip(metrics(whole), metrics(parts), strict=True):
        assert a.keys() == b.keys()
        # Before the first step every margin is a tie up to rounding, and rounding is all that the cut may change.
        for name in a.keys() - ({"split", "rewards/accuracies", "frac_in_U"} if a["step"] == 1 else {"split"}):
            assert a[name] == pytest.approx(b[name], abs=1e-6), name


def test_the_loss_of_a_pair_does_not_depend_on_its_batch(tmp_path: Path) -> None:
    data = comparisons(12)
    settings = {"eval_fraction": 0.0, "max_steps": 1, "learning_rate": 1e-9, "reference": "frozen"}
    losses = []
    for index, pair in enumerate(data):
        alone = short(tmp_path / f"alone{index}", data=[pair], **settings).output
        losses.append(metrics(alone)[0]["loss"])
    together = short(tmp_path / "together", data=data, batch_size=12, **settings).output
    assert metrics(together)[0]["loss"] == pytest.approx(sum(losses) / len(losses), abs=1e-5)


def test_a_short_last_batch_is_a_mean_over_itself(tmp_path: Path) -> None:
    output = short(tmp_path / "run", data=comparisons(10), batch_size=8, eval_fraction=0.0, learning_rate=1e-9).output
    rows = metrics(output)
    assert [round(row["epoch"], 2) for row in rows] == [0.5, 1.0, 1.5, 2.0]
    assert all(row["loss"] == pytest.approx(0.693147, abs=1e-5) for row in rows)


def test_rows_are_means_over_the_logging_window(tmp_path: Path) -> None:
    one = metrics(short(tmp_path / "one").output)
    four = metrics(short(tmp_path / "four", logging_steps=4).output)
    assert [row["step"] for row in four] == [4, 8]
    assert four[0]["loss"] == pytest.approx(sum(row["loss"] for row in one[:4]) / 4)
    assert four[0]["tokens"] == sum(row["tokens"] for row in one[:4])


class Broken(CataloguePolicy):
    """Scores one item sequence as NaN once it is trained on, whichever batch it is in."""

    bad = "e7"

    def score(self, network: Any, batch: Any, draw: Any) -> Scores:
        scores = super().score(network, batch, draw)
        if torch.is_grad_enabled() and self.bad in batch.ids:
            which = batch.layout.prompt[scores.response] == batch.ids.index(self.bad)
            factor = torch.where(which, torch.nan, 1.0)
            return Scores(scores.elements * factor, scores.response)
        return scores


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_row(tmp_path: Path) -> None:
    policy = Broken()
    with pytest.raises(UserError, match=r"not finite at step \d+: e7"):
        short(tmp_path / "run", policy=policy, eval_fraction=0.0)
    written = json.loads((tmp_path / "run" / "nonfinite.json").read_text())
    assert [entry["id"] for entry in written["examples"]] == ["e7"]
    assert written["examples"][0]["loss"] is None
    assert all(bool(p.isfinite().all()) for p in policy.network.parameters())
    assert record(tmp_path / "run")["status"] == "failed"
    assert len(metrics(tmp_path / "run")) == written["step"] - 1


class Exploding(CataloguePolicy):
    """A finite score with an infinite gradient."""

    def score(self, network: Any, batch: Any, draw: Any) -> Scores:
        scores = super().score(network, batch, draw)
        if torch.is_grad_enabled() and "e3" in batch.ids:
            which = batch.layout.prompt[scores.response] == batch.ids.index("e3")
            zero = (scores.elements - scores.elements.detach()) * which
            return Scores(scores.elements + zero.abs().sqrt(), scores.response)
        return scores


def test_a_gradient_that_is_not_finite_stops_the_run_too(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="e3"):
        short(tmp_path / "run", policy=Exploding(), eval_fraction=0.0)
    assert json.loads((tmp_path / "run" / "nonfinite.json").read_text())["loss"] is not None


def test_a_dead_gradient_is_told(tmp_path: Path) -> None:
    nothing = [Comparison(f"s{i}", str(i), ((1, 2), (3,)), (Edge(0, 1, weight=0.0),)) for i in range(4)]
    short(tmp_path / "run", data=nothing, eval_fraction=0.0)
    assert any("gradient is exactly zero at step 1" in text for text in record(tmp_path / "run")["warnings"])


def test_displaced_likelihood_is_told(tmp_path: Path) -> None:
    # The chosen answer is the rejected one with a longer tail, so pushing the rejected one down takes it along.
    data = [Comparison(f"d{i}", str(i % 8), ((3, 3, 3, 4), (3, 3, 3, 5)), (Edge(0, 1),)) for i in range(8)]
    short(tmp_path / "run", data=data, eval_fraction=0.0, max_steps=200, learning_rate=0.05, beta=2.0)
    rows = metrics(tmp_path / "run")
    fell = rows[-1]["logps/chosen"] < rows[0]["logps/chosen"] - 0.5
    told = any("less likely" in text for text in record(tmp_path / "run")["warnings"])
    assert told == fell


def test_unpaired_methods_count_marks(tmp_path: Path) -> None:
    from rather.objectives.outcome import Outcome
    from rather.objectives.scores import Layout
    from rather.training import metrics as module

    data = [
        Comparison("a", "0", ((1,),), desirable=(True,)),
        Comparison("b", "0", ((1,), (2,)), desirable=(False, True)),
    ]
    layout = Layout.of(data, [1, 1, 1])
    rewards = torch.tensor([1.0, 2.0, 0.0])
    outcome = Outcome((), rewards, torch.zeros(0), torch.zeros(0), rewards)
    found = module.means(module.sums(outcome, layout), module.names(outcome))
    assert found["rewards/chosen"] == 0.5
    assert found["rewards/rejected"] == 2.0
    assert found["rewards/accuracies"] == pytest.approx(1.5 / 3)
    assert "rewards/margins" not in found


def test_noise_is_new_in_each_epoch_and_shared_with_the_reference(tmp_path: Path) -> None:
    result = short(tmp_path / "run", policy=CataloguePolicy(noise=True), max_steps=1, learning_rate=1e-9)
    assert record(tmp_path / "run")["reference"] == "frozen"
    assert metrics(result.output)[0]["rewards/margins"] == 0.0
    assert result.before["rewards/margins"] == 0.0
