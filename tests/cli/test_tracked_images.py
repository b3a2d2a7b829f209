"""From captions to a method that wants the noise of each image: generate, judge, train; and going on after a stop."""

from __future__ import annotations

import io
import json
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from command import Call
from rather import rewards
from rather.data.load import load
from rather.data.types import Comparison
from rather.errors import UserError
from rather.policies.registry import open_policy
from rather.policies.settings import PolicySettings
from rather.sampling.tracked_images import ImageSampling, start_noise, tracked_images
from tiny_images import SIDE, opened

CAPTIONS = ("a red square", "two blue circles", "a cat", "a cat", "the sea at night")
JUDGE = """
import io
import numpy as np
from PIL import Image

def brightness(caption, images):
    return [float(np.asarray(Image.open(io.BytesIO(image)), float).mean()) for image in images]

def blind(caption, images):
    return [1.0 for image in images]

def broken(caption, images):
    return [1.0, float("nan")]
"""


@pytest.fixture(autouse=True)
def _quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATHER_CACHE", str(tmp_path / "cache"))
    (tmp_path / "own_judges.py").write_text(JUDGE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_judges", raising=False)
    (tmp_path / "captions.jsonl").write_text("".join(json.dumps({"prompt": text}) + "\n" for text in CAPTIONS))


def pixels(image: Any) -> np.ndarray:
    return np.asarray(image, np.int16)


@pytest.mark.parametrize("kind", ["sd", "sdxl", "sd3", "flux"])
def test_an_image_is_what_the_pipeline_makes_of_its_noise(folders: dict[str, str], kind: str) -> None:
    policy = opened(folders[kind])
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn((1, *policy.noise_shape), generator=generator).numpy()
    (own,) = policy.images(["a cat"], seed=0, steps=3)
    (found,) = policy.from_noise(["a cat"], noise, steps=3)
    assert np.array_equal(pixels(own), pixels(found))
    wide = np.concatenate([noise, noise], -1)
    assert policy.from_noise(["a cat"], wide, steps=1)[0].size == (2 * SIDE, SIDE)


def test_a_sampler_that_draws_is_replaced(folders: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """An ancestral sampler adds noise in every step: what it makes does not follow from where it starts."""
    import diffusers

    policy = opened(folders["sd"])
    noise = start_noise("a cat", policy.noise_shape, ImageSampling(1))
    (expected,) = policy.from_noise(["a cat"], noise, steps=3)
    told: Any = diffusers
    ancestral = told.EulerAncestralDiscreteScheduler.from_config(policy.pipeline.scheduler.config)
    policy.pipeline.scheduler = ancestral
    assert np.array_equal(pixels(policy.from_noise(["a cat"], noise, steps=3)[0]), pixels(expected))
    assert policy.pipeline.scheduler is ancestral

    flow = opened(folders["sd3"])
    noise = start_noise("a cat", flow.noise_shape, ImageSampling(1))
    (expected,) = flow.from_noise(["a cat"], noise, steps=3)
    own = flow.pipeline.scheduler
    flow.pipeline.scheduler = type(own).from_config(own.config, stochastic_sampling=True)
    assert np.array_equal(pixels(flow.from_noise(["a cat"], noise, steps=3)[0]), pixels(expected))


def test_noise_depends_on_seed_caption_and_number_alone() -> None:
    two, three = (start_noise("a cat", (4, 2, 2), ImageSampling(n)) for n in (2, 3))
    assert np.array_equal(two, three[:2])
    assert not np.array_equal(two[0], two[1])
    assert not np.array_equal(two, start_noise("a cat", (4, 2, 2), ImageSampling(2, seed=1)))
    assert not np.array_equal(two, start_noise("a dog", (4, 2, 2), ImageSampling(2)))
    many = start_noise("a cat", (4, 16, 16), ImageSampling(8))
    assert abs(float(many.mean())) < 0.05 and abs(float(many.std()) - 1) < 0.05


@pytest.mark.parametrize("kind", ["sd", "sd3", "flux"])
def test_from_captions_to_pnapo(folders: dict[str, str], rather: Call, tmp_path: Path, kind: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    out = tmp_path / "elsewhere" / "pairs.jsonl"
    code, told, wrong = rather(
        "sample", "--model", folders[kind], "--data", "captions.jsonl", "--judge", "python:own_judges:brightness",
        "--out", out, "--n", 3, "--steps", 2, "--image-size", SIDE, "--guidance", 1.0,
    )  # fmt: skip
    assert code == 0, wrong
    assert "4 pairs in" in told
    assert sorted(path.name for path in out.parent.iterdir()) == ["pairs-files", "pairs.jsonl"]

    pairs, policy = list(load(out)), opened(folders[kind])
    assert [pair.prompt for pair in pairs] == list(dict.fromkeys(CAPTIONS))
    judge = rewards.judge("python:own_judges:brightness")
    for pair in pairs:
        pictures = [Path(path).read_bytes() for path in pair.responses]
        assert pair.scores == tuple(judge.score(pair.prompt, pictures)) and pair.scores[0] > pair.scores[1]
        noise = load_file(pair.extras["noise"])["noise"]
        again = policy.from_noise([pair.prompt] * 2, noise, steps=2, guidance=1.0)
        from PIL import Image

        shown = [pixels(Image.open(io.BytesIO(picture))) for picture in pictures]
        assert max(np.abs(pixels(one) - other).max() for one, other in zip(again, shown, strict=True)) <= 1
    encoded = policy.encode(pairs)
    assert len(encoded) == 4 and not policy.report.dropped
    batch = policy.collate(encoded)
    stored = np.concatenate([load_file(pair.extras["noise"])["noise"] for pair in pairs])
    assert np.array_equal(batch.inputs["noise"].numpy(), stored)

    code, _, wrong = rather(
        "train", "--model", folders[kind], "--data", out, "--method", "pnapo", "--output", "run", "--image-size", SIDE,
        "--max-steps", 2, "--batch-size", 2, "--precision", "fp32", "--eval-fraction", 0, "--no-samples", "--lora",
    )  # fmt: skip
    assert code == 0, wrong
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert sum(row["split"] == "train" and np.isfinite(row["loss"]) for row in rows) >= 1
    assert json.loads((tmp_path / "run" / "run.json").read_text())["steps"] == 2


def test_the_same_call_goes_on_where_it_was_stopped(folders: dict[str, str], tmp_path: Path) -> None:
    policy = opened(folders["sd"])
    prompts = [Comparison(str(i), caption, ()) for i, caption in enumerate(CAPTIONS)]
    asked: list[str] = []
    drawn: list[int] = []
    from_noise = policy.from_noise

    def counted(captions: Any, *more: Any) -> Any:
        drawn.append(len(captions))
        return from_noise(captions, *more)

    policy.from_noise = counted

    def score(caption: str, images: Any) -> list[float]:
        if caption == "a cat" and asked.count(caption) == 0:
            asked.append(caption)
            raise KeyboardInterrupt
        asked.append(caption)
        return [0.0, 1.0]

    how = ImageSampling(2, 1)
    with pytest.raises(KeyboardInterrupt):
        list(tracked_images(policy, prompts, score, tmp_path / "pairs.jsonl", how))
    assert len(list(tracked_images(policy, prompts, score, tmp_path / "pairs.jsonl", how))) == 4
    assert asked == ["a red square", "two blue circles", "a cat", "a cat", "the sea at night"]
    assert drawn == [8, 4]  # all four captions together; then those that no judge had seen
    assert not list(tmp_path.glob(".pairs*"))


def test_guidance_away_from_a_trained_model(folders: dict[str, str], rather: Call, tmp_path: Path) -> None:
    code, _, wrong = rather(
        "train", "--model", folders["sd"], "--data", "captions.jsonl", "--method", "self_npo", "--output", "run",
        "--image-size", SIDE, "--max-steps", 3, "--learning-rate", 0.01, "--batch-size", 2, "--precision", "fp32",
        "--eval-fraction", 0, "--no-samples", "--lora",
    )  # fmt: skip
    assert code == 0, wrong
    call = (
        "sample", "--model", folders["sd"], "--data", "captions.jsonl", "--judge", "python:own_judges:brightness",
        "--n", 2, "--steps", 2, "--image-size", SIDE,
    )  # fmt: skip
    away = ("--negative", "run/model")
    for name, more in (("plain", ("--guidance", 4.0)), ("away", ("--guidance", 4.0, *away))):
        code, told, wrong = rather(*call, "--out", f"{name}.jsonl", *more)
        assert code == 0, wrong
    scores = [[pair.scores for pair in load(f"{name}.jsonl")] for name in ("plain", "away")]
    assert len(scores[0]) == len(scores[1]) == 4 and scores[0] != scores[1]
    code, _, told = rather(*call, "--out", "none.jsonl", "--guidance", 1.0, *away)
    assert code == 2 and "nothing is guided away" in re.sub(r"\s+", " ", told)
    code, _, told = rather(*call, "--out", "none.jsonl", "--negative", folders["sdxl"])
    assert code == 2 and "not the architecture" in re.sub(r"\s+", " ", told)
    assert not Path("none.jsonl").exists()


def test_pairs_do_not_depend_on_what_is_made_together(
    folders: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to rounding: in matrix products of another size sums are taken in another order."""
    from PIL import Image

    from rather.policies.pipelines import policy as policies

    policy = opened(folders["sd"])
    prompts = [Comparison(str(i), caption, ()) for i, caption in enumerate((*CAPTIONS, 7, " "))]
    calls: list[int] = []
    call = policy.pipeline.__class__.__call__

    def counted(self: Any, *given: Any, **named: Any) -> Any:
        calls.append(len(named["prompt"]))
        return call(self, *given, **named)

    monkeypatch.setattr(policy.pipeline.__class__, "__call__", counted)

    def found(folder: str, together: int) -> list[tuple[Comparison, np.ndarray, list[np.ndarray]]]:
        monkeypatch.setattr(policies, "_TOGETHER", together)
        calls.clear()
        (tmp_path / folder).mkdir()
        left_out: Counter[str] = Counter()
        # Scores do not depend on pixels: which image is the best is no matter of rounding.
        made = tracked_images(
            policy, prompts, lambda *_: [1.0, 2.0, 0.0], tmp_path / folder / "pairs.jsonl", ImageSampling(3, 2),
            left_out=left_out,
        )  # fmt: skip
        rows = []
        for pair in made:
            shown = [pixels(Image.open(tmp_path / folder / name)) for name in pair.responses]
            rows.append((pair, load_file(tmp_path / folder / pair.extras["noise"])["noise"], shown))
        assert left_out == {"the same caption again": 1, "the caption is not text": 2}
        return rows

    many = found("many", 64)
    assert calls == [12]
    for together, expected in ((7, [6, 6]), (3, [3] * 4), (2, [2, 1] * 4)):
        few = found(str(together), together)
        assert calls == expected
        for (pair, noise, shown), (other, its_noise, its_shown) in zip(many, few, strict=True):
            assert pair == other
            assert np.array_equal(noise, its_noise)
            assert max(np.abs(a - b).max() for a, b in zip(shown, its_shown, strict=True)) <= 1
    assert len({shown[0].tobytes() for _, _, shown in many}) == len(many) == 4


@pytest.mark.parametrize(("side", "expected"), [(32, 64), (128, 16), (256, 4), (512, 1), (1024, 1)])
def test_fewer_large_images_are_made_together(folders: dict[str, str], side: int, expected: int) -> None:
    """By the positions of their latents; one is the square of 4 pixels here, of 8 in larger models."""
    policy: Any = open_policy(PolicySettings.model_validate({"model": folders["sd"], "image_size": side}))
    assert policy.noise_shape[1:] == (side // 4, side // 4)
    assert policy.together == expected


def test_mistakes(folders: dict[str, str], rather: Call, tmp_path: Path) -> None:
    common = (
        "sample",
        "--model",
        folders["sd"],
        "--data",
        "captions.jsonl",
        "--out",
        "pairs.jsonl",
        "--image-size",
        SIDE,
    )
    quick = ("--n", 2, "--steps", 1, "--limit", 1)

    def refused(*arguments: Any) -> str:
        code, out, told = rather(*arguments)
        assert code == 2, told
        return re.sub(r"\s+", " ", out + told)

    assert "names no function" in refused(*common, "--judge", "python:own_judges")
    assert "cannot be imported" in refused(*common, "--judge", "python:nowhere:at_all")
    assert "has no function 'dark'" in refused(*common, "--judge", "python:own_judges:dark")
    assert "not a finite number for each" in refused(*common, *quick, "--judge", "python:own_judges:broken")
    assert "all images score alike" in refused(*common, *quick, "--judge", "python:own_judges:blind")
    assert "is for texts" in refused(*common, *quick, "--keep", 2, "--judge", "length")
    text = ("sample", "--model", "nothing", "--data", "captions.jsonl", "--judge", "length", "--out", "x.jsonl")
    assert "belongs to an image pipeline" in refused(*text, "--steps", 3)
    assert not list(tmp_path.glob("pairs.jsonl"))


def test_a_file_of_noise_that_is_not_there(folders: dict[str, str], tmp_path: Path) -> None:
    from tiny_images import png

    for name in ("a", "b"):
        (tmp_path / f"{name}.png").write_bytes(png(ord(name)))
    row = {"prompt": "a cat", "chosen": "a.png", "rejected": "b.png", "noise": "noise.safetensors"}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(row))
    with pytest.raises(UserError, match="there is no file of noise"):
        load(tmp_path / "pairs.jsonl")
    (tmp_path / "noise.safetensors").write_bytes(b"nothing")
    policy = opened(folders["sd"])
    assert policy.encode(list(load(tmp_path / "pairs.jsonl"))) == []
    assert "cannot be read" in next(iter(policy.report.dropped))
