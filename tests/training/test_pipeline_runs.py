"""Every method that an image pipeline can be trained with, a few steps through the one loop; resume.

RATHER_TEST_STEPS says how many steps a method takes.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from rather.data.types import Comparison, Edge
from rather.errors import UserError
from rather.methods.gallery import MODELS, trains
from rather.methods.registry import methods
from rather.policies.pipelines import policy as pipelines
from rather.policies.rollout import SelfRollouts
from rather.training import loop
from rather.training.run import train
from tiny_images import SIDE, png, rows, tiny_pipeline

STEPS = int(os.environ.get("RATHER_TEST_STEPS", "2"))

GIVEN = frozenset({"pairs", "lists", "reference", "confidence", "noise", "targets", "marks", "scores", "rollouts"})
"""What the pairs below have, and roll-outs, which a method puts around the pipeline."""

METHODS = [name for name, method in methods().items() if method.needs <= GIVEN]


def test_the_documentation_names_these_methods() -> None:
    kind = MODELS["image pipeline, `toy:points`"]
    assert [name for name, method in methods().items() if trains(method, kind)] == METHODS


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("images")


@pytest.fixture(scope="module")
def folders(root: Path) -> dict[str, str]:
    return {kind: tiny_pipeline(root / kind, kind) for kind in ("sd", "sd3")}


@pytest.fixture(autouse=True)
def _quick(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATHER_CACHE", str(root / "cache"))
    monkeypatch.setattr(pipelines, "_STEPS", 1)


def pairs(number: int = 6) -> list[Comparison]:
    found = []
    for i, row in enumerate(rows(number)):
        noise = np.random.default_rng(i).normal(size=(2, 4, SIDE // 4, SIDE // 4)).astype(np.float32)
        edge = Edge(0, 1, margin=0.5)
        one = Comparison(f"c{i}", row["prompt"], (row["chosen"], row["rejected"]), (edge,), scores=(1.0, 0.5))
        found.append(replace(one, extras={"noise": noise.tolist()}))
    return found


def mixed(number: int = 6) -> list[Comparison]:
    """Pairs of pictures of three shapes; those of one caption differ in shape."""
    sizes = ((40, 36), (100, 40), (30, 50))
    found = []
    for i, one in enumerate(pairs(number)):
        size = sizes[(i + i // 3) % 3]
        images = (png(2 * i, size), png(2 * i + 1, size))
        found.append(replace(one, responses=images, extras={}))
    return found


def run(output: Path, model: str, method: str = "diffusion_dpo", data: Any = None, **settings: Any) -> Any:
    plain: dict[str, Any] = {
        "image_size": SIDE,
        "max_steps": 2,
        "batch_size": 2,
        "learning_rate": 1e-3,
        "precision": "fp32",
        "eval_fraction": 0.0,
        "quiet": True,
    }
    return train(model, data or pairs(), method=method, output=str(output), **{**plain, **settings})


def losses(output: Path) -> list[float]:
    rows = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if row["split"] == "train"]


@pytest.mark.parametrize("kind", ["sd", "sd3"])
@pytest.mark.parametrize("method", METHODS)
def test_a_method_trains_a_pipeline(folders: dict[str, str], method: str, kind: str, tmp_path: Path) -> None:
    options = {"noising.steps": 2} if method in ("inpo", "smpo") else {}
    run(tmp_path / "run", folders[kind], method, max_steps=STEPS, **options)
    told = losses(tmp_path / "run")
    assert told and all(math.isfinite(loss) for loss in told)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["steps"] == STEPS
    part = "unet" if kind == "sd" else "transformer"
    before, after = (
        load_file(Path(folder) / part / "diffusion_pytorch_model.safetensors")
        for folder in (folders[kind], tmp_path / "run" / "model")
    )
    assert any(not torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(("lora", "buckets"), [(False, False), (True, False), (True, True)])
def test_resuming_changes_nothing(
    folders: dict[str, str], tmp_path: Path, lora: bool, buckets: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {
        "data": mixed() if buckets else pairs(),
        "image_buckets": buckets,
        "max_steps": 5,
        "save_steps": 2,
        "lora": lora,
        "caption_drop": 0.5,
        "eval_fraction": 0.3,
    }
    run(tmp_path / "whole", folders["sd"], **settings)
    taken = loop.Loop.step

    def step(self: loop.Loop, number: int) -> loop.Step:
        if number == 3:
            raise KeyboardInterrupt
        return taken(self, number)

    monkeypatch.setattr(loop.Loop, "step", step)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "again", folders["sd"], **settings)
    monkeypatch.setattr(loop.Loop, "step", taken)
    run(tmp_path / "again", folders["sd"], resume=True, **settings)
    assert losses(tmp_path / "whole") == losses(tmp_path / "again")
    for path in (tmp_path / "whole" / "model").rglob("*.safetensors"):
        other = tmp_path / "again" / path.relative_to(tmp_path / "whole")
        one, two = load_file(path), load_file(other)
        assert one.keys() == two.keys()
        assert all(torch.equal(one[name], two[name]) for name in one), path.name
    told = [json.loads((tmp_path / name / "evaluation.json").read_text()) for name in ("whole", "again")]
    assert told[0] == told[1]


@pytest.mark.parametrize("buckets", [False, True])
def test_accumulation_changes_nothing(folders: dict[str, str], tmp_path: Path, buckets: bool) -> None:
    settings: dict[str, Any] = {
        "data": mixed() if buckets else pairs(),
        "image_buckets": buckets,
        "batch_size": 4,
        "max_steps": 3,
        "optimizer": "sgd",
        "learning_rate": 1e-4,
        "beta": 50.0,
    }
    run(tmp_path / "whole", folders["sd3"], **settings)
    run(tmp_path / "parts", folders["sd3"], micro_batch_size=1, **settings)
    assert losses(tmp_path / "whole") == pytest.approx(losses(tmp_path / "parts"), abs=1e-5)


def test_what_compares_within_a_micro_batch_is_told_of_buckets(folders: dict[str, str], tmp_path: Path) -> None:
    for buckets in (False, True):
        run(tmp_path / str(buckets), folders["sd"], "aot", data=mixed(), image_buckets=buckets, max_steps=1)
        warnings = json.loads((tmp_path / str(buckets) / "run.json").read_text())["warnings"]
        assert any("different buckets" in text for text in warnings) == buckets


def test_a_run_leaves_samples_and_a_report(folders: dict[str, str], tmp_path: Path) -> None:
    run(tmp_path / "run", folders["sd"], eval_fraction=0.4, lora=True)
    assert (tmp_path / "run" / "samples" / "before.png").read_bytes() != b""
    (row,) = [json.loads(line) for line in (tmp_path / "run" / "samples.jsonl").read_text().splitlines()]
    assert row["after"] == "samples/after.png"
    page, card = ((tmp_path / "run" / name).read_text() for name in ("report.html", "model/README.md"))
    assert "data:image/png;base64" in page
    assert "Scores of responses" in page and "og-probability" not in page
    assert "load_lora_weights" in card and "library_name: diffusers" in card
    assert (tmp_path / "run" / "model" / "pytorch_lora_weights.safetensors").is_file()


@pytest.mark.parametrize("options", [{}, {"rollout.start": "data", "rollout.excess": -1.0, "loss": "huber"}])
@pytest.mark.parametrize("lora", [False, True])
def test_roll_outs_are_of_the_model_as_it_was(
    folders: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lora: bool, options: dict[str, Any]
) -> None:
    """The teacher stands still while the student moves, and a run that goes on has the teacher of its beginning."""
    settings: dict[str, Any] = {"max_steps": 4, "save_steps": 2, "lora": lora, "eval_fraction": 0.3, **options}
    teachers: list[list[torch.Tensor]] = []
    draw = SelfRollouts.draw

    def spy(self: SelfRollouts, batch: Any, seed: int) -> Any:
        assert not self.teacher.training
        teachers.append([parameter.detach().clone() for parameter in self.teacher.parameters()])
        return draw(self, batch, seed)

    monkeypatch.setattr(SelfRollouts, "draw", spy)
    run(tmp_path / "whole", folders["sd3"], "self_npo", **settings)
    taken = loop.Loop.step

    def step(self: loop.Loop, number: int) -> loop.Step:
        if number == 3:
            raise KeyboardInterrupt
        return taken(self, number)

    monkeypatch.setattr(loop.Loop, "step", step)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "again", folders["sd3"], "self_npo", **settings)
    monkeypatch.setattr(loop.Loop, "step", taken)
    run(tmp_path / "again", folders["sd3"], "self_npo", resume=True, **settings)
    assert all(torch.equal(one, other) for each in teachers for one, other in zip(each, teachers[0], strict=True))
    assert losses(tmp_path / "whole") == losses(tmp_path / "again")
    assert losses(tmp_path / "whole")[0] != losses(tmp_path / "whole")[-1]
    assert (tmp_path / "whole" / "samples" / "after.png").is_file()
    page = (tmp_path / "whole" / "report.html").read_text()
    assert "data:image/png;base64" in page


def test_methods_that_need_likelihoods_are_refused(folders: dict[str, str], tmp_path: Path) -> None:
    for method, words in (
        ("orpo", "true log-probabilities"),
        ("mapl", "prompts of its own making"),
        ("bt", "reward model"),
    ):
        with pytest.raises(UserError, match=words):
            run(tmp_path / method, folders["sd"], method)
        assert not (tmp_path / method).exists()


def test_no_pair_is_left(folders: dict[str, str], tmp_path: Path) -> None:
    broken = [Comparison("c", "a cat", (b"\x89PNG", png(0)), (Edge(0, 1),))]
    with pytest.raises(UserError, match="no comparison is left: .*cannot be read"):
        train(folders["sd"], broken, image_size=SIDE, quiet=True, output=str(tmp_path / "run"), eval_fraction=0.0)
