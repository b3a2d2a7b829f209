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
from tiny_images import SIDE, png, rows

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


def run_with_a_stop(monkeypatch: pytest.MonkeyPatch, *args: Any, **settings: Any) -> None:
    """Stopped before the fourth step, then resumed."""
    taken = loop.Loop.step

    def step(self: loop.Loop, number: int) -> loop.Step:
        if number == 3:
            raise KeyboardInterrupt
        return taken(self, number)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Loop, "step", step)
        with pytest.raises(KeyboardInterrupt):
            run(*args, **settings)
    run(*args, resume=True, **settings)


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
    run_with_a_stop(monkeypatch, tmp_path / "again", folders["sd"], **settings)
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
    run_with_a_stop(monkeypatch, tmp_path / "again", folders["sd3"], "self_npo", **settings)
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


def run_on_disk(folder: Path, model: str, method: str = "diffusion_dpo", **settings: Any) -> Path:
    """A run on pairs that lie in a file, so that a later command reads them again."""
    folder.mkdir()
    lines = []
    for number, row in enumerate(rows(8)):
        names = {side: f"{number}-{side}.png" for side in ("chosen", "rejected")}
        for side, name in names.items():
            (folder / name).write_bytes(row[side])
        lines.append(json.dumps({"prompt": f"{row['prompt']} {number}", **names}))
    (folder / "pairs.jsonl").write_text("\n".join(lines))
    plain: dict[str, Any] = {"image_size": SIDE, "max_steps": 3, "batch_size": 2, "precision": "fp32", "quiet": True}
    plain |= {"learning_rate": 1e-2, "eval_fraction": 0.5, "method": method, "output": str(folder / "run")}
    train(model, str(folder / "pairs.jsonl"), **{**plain, **settings})
    return folder / "run"


@pytest.mark.parametrize(
    ("kind", "settings"), [("sd", {"lora": True, "lora_rank": 4}), ("sd", {}), ("sd3", {"method": "mapo"})]
)
def test_a_finished_run_is_scored_anew(
    folders: dict[str, str], tmp_path: Path, kind: str, settings: dict[str, Any]
) -> None:
    from rather.report.rescore import rescore
    from rather.report.run_folder import read_run

    output = run_on_disk(tmp_path / "data", folders[kind], **settings)
    told = json.loads((output / "evaluation.json").read_text())
    found = rescore(read_run(output), show=False)
    assert found["before"].keys() == told["before"].keys() and found["after"].keys() == told["after"].keys()
    assert told["after"]["logps/chosen"] != pytest.approx(told["before"]["logps/chosen"], rel=1e-3)
    for side in ("before", "after"):
        numbers = {name for name, value in told[side].items() if isinstance(value, int | float)}
        assert {name: found[side][name] for name in numbers} == pytest.approx(
            {name: told[side][name] for name in numbers}, rel=1e-4, abs=1e-5
        )
        bins = told[side]["timesteps"]["bins"]
        assert sum(row["n"] for row in bins) == 4
        for row, again in zip(bins, found[side]["timesteps"]["bins"], strict=True):
            assert again["error/chosen"] == pytest.approx(row["error/chosen"], rel=1e-4)
            assert ("reference/chosen" in again) == (kind == "sd")
    assert "By timestep" in (output / "report.html").read_text()


def test_a_judge_scores_what_both_models_draw(folders: dict[str, str], tmp_path: Path) -> None:
    import typer
    from typer.testing import CliRunner

    from rather import rewards
    from rather.cli.evaluate import evaluate
    from tiny_images import tiny_clip

    output = run_on_disk(tmp_path / "data", folders["sd"])
    name = f"pickscore:{tiny_clip(tmp_path / 'clip')}"
    app = typer.Typer()
    app.command()(evaluate)
    told = CliRunner().invoke(app, [str(output), "--judge", name, "--images", "3"], catch_exceptions=False)
    assert told.exit_code == 0 and "Ranking accuracy" in told.output
    found = json.loads((output / "evaluation.json").read_text())
    drawn = [sorted((output / "samples" / "judged" / side).iterdir()) for side in ("before", "after")]
    assert [len(paths) for paths in drawn] == [3, 3]
    judge = rewards.judge(name)
    captions = _held_captions(output)[:3]
    scores = np.array([[judge.score(c, [str(p)])[0] for c, p in zip(captions, side, strict=True)] for side in drawn])
    for number, side in enumerate(("before", "after")):
        assert found[side][f"judged/{name}"] == pytest.approx(scores[number].mean(), rel=1e-6)
        low, high = found[side][f"judged/{name}/interval"]
        assert low < found[side][f"judged/{name}"] < high
    assert found["after"][f"wins/{name}"] == pytest.approx((scores[1] > scores[0]).mean())
    assert not np.array_equal(scores[0], scores[1])
    page = (output / "report.html").read_text()
    assert "Score of drawn images, pickscore:" in page and "Wins over before, pickscore:" in page


def _held_captions(output: Path) -> list[str]:
    from rather.methods.registry import get
    from rather.training import preflight
    from rather.training.settings import from_yaml, resolve

    config = resolve(from_yaml(output / "config.yaml"))
    held = preflight.examples(config, get(config.method), config.data, config.eval_data).held
    return [comparison.prompt for comparison in held]


def test_a_model_that_has_not_moved_wins_half(folders: dict[str, str], tmp_path: Path) -> None:
    """Both draw a caption from the same noise, so equal weights give equal images."""
    from rather.report.rescore import rescore
    from rather.report.run_folder import read_run

    model, data = folders["sd3"], "world:shapes?pairs=6"
    settings: dict[str, Any] = {"image_size": SIDE, "max_steps": 1, "learning_rate": 1e-12, "precision": "fp32"}
    train(model, data, method="diffusion_dpo", output=str(tmp_path / "run"), quiet=True, eval_fraction=0.5, **settings)
    found = rescore(read_run(tmp_path / "run"), judge="checker:shapes", images=5, show=False)
    before, after = (
        [path.read_bytes() for path in sorted((tmp_path / "run/samples/judged" / side).iterdir())]
        for side in ("before", "after")
    )
    assert before == after and len(set(before)) == len(before) > 1
    assert found["after"]["wins/checker:shapes"] == 0.5
    assert found["before"]["judged/checker:shapes"] == found["after"]["judged/checker:shapes"]


def test_judges_and_models_that_do_not_fit(folders: dict[str, str], tmp_path: Path) -> None:
    from rather.cli.chat import voices
    from rather.report.rescore import rescore
    from rather.report.run_folder import read_run

    run = read_run(run_on_disk(tmp_path / "data", folders["sd"], lora=True))
    with pytest.raises(UserError, match="judges text"):
        rescore(run, judge="length", show=False)
    with pytest.raises(UserError, match="trained an image pipeline"):
        voices(run, base=False, seed=0)
