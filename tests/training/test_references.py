"""The five references, and the cache that is never stale."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from rather.data.types import Comparison, Edge
from rather.errors import UserError
from rather.training import references
from rather.training.config import TrainConfig
from training.catalogue import CataloguePolicy, comparisons
from training.runs import metrics, record, short, weights


def shards() -> list[Path]:
    return sorted(Path(os.environ["RATHER_CACHE"]).glob("references/*/*.safetensors"))


def rows(tmp_path: Path, name: str, **options: Any) -> list[dict[str, Any]]:
    return metrics(short(tmp_path / name, **options).output)


def test_frozen_cached_and_switched_off_say_the_same(tmp_path: Path) -> None:
    for adapters, kinds in ((False, ("frozen", "cached")), (True, ("frozen", "cached", "adapters"))):
        runs = [
            rows(
                tmp_path, f"{kind}{adapters}", policy=CataloguePolicy(adapters=adapters), reference=kind, lora=adapters
            )
            for kind in kinds
        ]
        for other in runs[1:]:
            for a, b in zip(runs[0], other, strict=True):
                assert a["loss"] == pytest.approx(b["loss"], abs=1e-6)
        assert runs[0][0]["loss"] != pytest.approx(runs[0][-1]["loss"], abs=1e-3), "something was trained"


def test_the_second_run_does_not_pay(tmp_path: Path) -> None:
    first, second = CataloguePolicy(), CataloguePolicy()
    before = rows(tmp_path, "first", policy=first)
    made = {path: path.stat().st_mtime_ns for path in shards()}
    assert made
    after = rows(tmp_path, "second", policy=second)
    assert {path: path.stat().st_mtime_ns for path in shards()} == made
    assert first.passes > second.passes
    assert before == after


@pytest.mark.parametrize(("kind", "extra"), [("cached", 0), ("frozen", 1)])
def test_later_epochs_do_not_pay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, extra: int) -> None:
    found = []
    for epochs in (1, 3):
        monkeypatch.setenv("RATHER_CACHE", str(tmp_path / f"cache{epochs}"))
        policy = CataloguePolicy()
        run = short(tmp_path / f"run{epochs}", policy=policy, reference=kind, epochs=epochs, eval_fraction=0.0)
        found.append((policy.passes, run.steps))
    (few, short_run), (many, long_run) = found
    assert long_run == 3 * short_run
    assert many - few == (1 + extra) * (long_run - short_run)


def test_only_what_is_new_is_computed(tmp_path: Path) -> None:
    few, more, fresh = (CataloguePolicy() for _ in range(3))
    options: dict[str, Any] = {
        "eval_fraction": 0.0,
        "max_steps": 1,
        "max_tokens": 4,
    }  # one or two comparisons in a pass
    short(tmp_path / "few", policy=few, data=comparisons(20), **options)
    short(tmp_path / "more", policy=more, data=comparisons(24), **options)
    short(tmp_path / "again", policy=fresh, data=comparisons(24), **options)
    assert few.passes > more.passes > fresh.passes


def test_other_weights_are_another_reference(tmp_path: Path) -> None:
    short(tmp_path / "first")
    moved = CataloguePolicy()
    with torch.no_grad():
        moved.network.items += 0.5 * torch.randn_like(moved.network.items)  # type: ignore[operator,arg-type]
    result = short(tmp_path / "second", policy=moved)
    assert result.before["rewards/margins"] == 0.0, "scores of the first model were not taken"
    assert len({path.parent for path in shards()}) == 2


def test_changed_content_under_the_same_id_is_computed_again(tmp_path: Path) -> None:
    data = comparisons(24)
    short(tmp_path / "first", data=data)
    turned = [Comparison(c.id, c.prompt, tuple((*r[::-1], 1) for r in c.responses), (Edge(0, 1),)) for c in data]
    result = short(tmp_path / "second", data=turned)
    assert result.before["rewards/margins"] == pytest.approx(0.0, abs=1e-7)


def test_a_broken_shard_is_computed_again(tmp_path: Path) -> None:
    before = rows(tmp_path, "first")
    for path in shards():
        path.write_bytes(path.read_bytes()[:-40])
    assert rows(tmp_path, "second") == before


def test_a_cache_that_cannot_be_written_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RATHER_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match="cannot be saved"):
        short(tmp_path / "run")
    short(tmp_path / "other", reference="frozen")


def test_a_full_share_kept_is_a_frozen_reference(tmp_path: Path) -> None:
    still = rows(tmp_path, "frozen", reference="frozen")
    kept = rows(tmp_path, "kept", reference="ema", ref_decay=1.0)
    moving = rows(tmp_path, "moving", reference="ema", ref_decay=0.5)
    for a, b in zip(still, kept, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], abs=1e-6)
    assert abs(moving[-1]["rewards/margins"]) < abs(still[-1]["rewards/margins"])


def test_a_synchronised_reference_starts_again_at_a_tie(tmp_path: Path) -> None:
    found = rows(tmp_path, "sync", reference="sync", ref_sync_steps=4, epochs=3)
    assert [row["rewards/margins"] == 0.0 for row in found] == [step % 4 == 0 for step in range(12)]


@pytest.mark.parametrize(
    ("adapters", "draws", "expected"),
    [(False, False, "cached"), (True, False, "cached"), (True, True, "adapters"), (False, True, "frozen")],
)
def test_auto(adapters: bool, draws: bool, expected: str) -> None:
    config = TrainConfig(model="m", data="d")
    assert references.choose(config, True, adapters, draws) == expected
    assert references.choose(config, False, adapters, draws) == "none"


def test_what_cannot_be_is_refused() -> None:
    none = TrainConfig(model="m", data="d", reference="none")
    cached = TrainConfig(model="m", data="d", reference="cached")
    with pytest.raises(UserError, match="compares with a reference"):
        references.choose(none, True, False, False)
    with pytest.raises(UserError, match="cannot be cached"):
        references.choose(cached, True, False, True)


def test_dropout_is_off_in_the_reference_and_on_in_the_policy(tmp_path: Path) -> None:
    for kind in ("frozen", "cached", "ema"):
        result = short(tmp_path / kind, policy=CataloguePolicy(dropout=0.5), reference=kind, max_steps=1)
        assert result.before["rewards/margins"] == 0.0
        assert metrics(result.output)[0]["rewards/margins"] != 0.0


def test_adapters_train_alone(tmp_path: Path) -> None:
    policy = CataloguePolicy(adapters=True)
    before = {name: tensor.clone() for name, tensor in policy.network.state_dict().items()}
    output = short(tmp_path / "run", policy=policy, lora=True).output
    changed = {name for name, tensor in weights(output).items() if not torch.equal(tensor, before[name])}
    assert changed == {"adapter"}
    assert record(output)["parameters"]["trained"] == before["adapter"].numel()


def test_before_training_the_cached_reference_stands_for_the_policy(tmp_path: Path) -> None:
    found = {}
    for kind in ("frozen", "cached"):
        policy = CataloguePolicy()
        run = short(tmp_path / kind, policy=policy, reference=kind, max_steps=1, eval_steps=0, eval_fraction=0.3)
        found[kind] = run.before, policy.passes
    (frozen, _), (cached, _) = found["frozen"], found["cached"]
    assert frozen.keys() == cached.keys()
    for name, value in cached.items():
        if name != "accuracy/interval":
            assert value == pytest.approx(frozen[name], abs=1e-5), name
    assert cached["accuracy"] == 0.5 and cached["kl"] == 0.0
    assert cached["loss"] == pytest.approx(0.6931472, abs=1e-6)


def test_an_opened_policy_with_an_adapter_is_asked_itself(tmp_path: Path) -> None:
    policy = CataloguePolicy(adapters=True)
    with torch.no_grad():
        for parameter in policy.network.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn_like(parameter))
    run = short(tmp_path / "run", policy=policy, reference="cached", lora=True, max_steps=1, eval_fraction=0.3)
    assert run.before["kl"] > 0
