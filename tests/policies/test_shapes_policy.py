"""``toy:shapes``: pipelines of the world of shapes, which check their own samples."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import rather
from rather.errors import UserError
from rather.policies.registry import open_policy
from rather.policies.settings import PolicySettings
from rather.policies.shapes import fit, reading, weights
from rather.policies.shapes import pretrain as pretraining
from rather.policies.shapes.autoencoder import ShapesAutoencoder, as_input, loss
from rather.policies.shapes.build import LONGEST, build, tokenizer
from rather.policies.shapes.policy import ShapesPolicy
from rather.worlds.shapes.caption import parse
from rather.worlds.shapes.demand import TASKS, Demand, random_demand, scene_for
from rather.worlds.shapes.read import read
from rather.worlds.shapes.render import render
from rather.worlds.shapes.score import obeys
from rather.worlds.shapes.sloppy import WRONG, captioned


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATHER_CACHE", str(tmp_path_factory.getbasetemp() / "shapes-cache"))


def _parsed(caption: str) -> Demand:
    found = parse(caption)
    assert found is not None
    return found


def opened(model: str = "toy:shapes?process=v&steps=1", **settings: Any) -> Any:
    policy: Any = open_policy(PolicySettings.model_validate({"model": model, **settings}))
    policy.per_task = 1
    return policy


@torch.no_grad()
def test_pictures_come_back_from_the_autoencoder() -> None:
    """Held-out combinations too: what the program reads survives, also in latents that are not quite right."""
    random, model = np.random.default_rng(5), weights.autoencoder()
    scenes = [scene_for(random_demand(task, random, True), random) for task in TASKS for _ in range(10)]
    known = model.encode(as_input([render(scene) for scene in scenes])).latent_dist
    assert known.mean.shape == (60, 12, 8, 8)
    assert 0.9 < float(known.mean.std()) * model.config["scaling_factor"] < 1.1
    torch.manual_seed(0)
    for off, least in ((0.0, 0.75), (0.3, 0.65)):
        made = model.decode(known.mean + off * torch.randn_like(known.mean)).sample
        images = ((made.permute(0, 2, 3, 1) + 1) * 127.5).clamp(0, 255).round().byte().numpy()
        alike = [read(image).scene.looks == scene.looks for image, scene in zip(images, scenes, strict=True)]
        assert np.mean(alike) > least


@pytest.mark.parametrize("factor", [2, 4])
def test_the_autoencoder_learns(factor: int) -> None:
    torch.manual_seed(0)
    model = ShapesAutoencoder(latent_channels=4, width=16, block_out_channels=(3,) * factor.bit_length())
    before = float(loss(model, 0, 1000).detach())
    fit.fit({"autoencoder": model}, lambda step: loss(model, 0, step), 40, 5e-3, 0)
    assert float(loss(model, 0, 1000)) < before / 2
    model.rescale(0)
    pixels = torch.rand(2, 3, 8, 8)
    assert model.decode(model.encode(pixels).latent_dist.mean).sample.shape == pixels.shape
    assert model.config["scaling_factor"] != 1


def test_captions_become_answers() -> None:
    asked = reading.answers(["three small striped red circles on a grey background", "a drawing of a cross"])
    assert asked.shape == (2, len(reading.SLOTS))
    assert asked[0].tolist() == [2, 1, 1, 2, 1, 0, 0, 0, 0, 0, 0, 3]
    assert asked[1].tolist() == [0, 4, *[0] * 10]
    assert bool((asked < torch.tensor(reading.SLOTS)).all())


@pytest.mark.parametrize("process", ["v", "flow"])
def test_text_encoders_learn_to_read(process: str) -> None:
    torch.manual_seed(0)
    pipeline = build(process, ShapesAutoencoder(width=8))  # type: ignore[arg-type]
    encoders = weights.text_encoders(pipeline)
    known = reading.readers(encoders)
    before = float(reading.loss(pipeline, encoders, known, 0, 1000).detach())
    fit.fit({**encoders, **known}, lambda step: reading.loss(pipeline, encoders, known, 0, step), 20, 3e-3, 0)
    assert float(reading.loss(pipeline, encoders, known, 0, 1000)) < 0.7 * before


@pytest.mark.parametrize("process", ["v", "flow"])
def test_packaged_models_draw_what_they_are_asked_for_now_and_then(process: str) -> None:
    """The files that come with the package are the ones that were trained: a random network never passes a check."""
    policy = opened(f"toy:shapes?process={process}")
    policy.per_task = 4
    found = policy.check(policy.network)
    assert found["single checks"].mean() > 0.4


def test_every_caption_is_made_of_known_words() -> None:
    random, words = np.random.default_rng(0), tokenizer()
    for held_out, task, wording in itertools.product((False, True), TASKS, range(5)):
        for _ in range(20):
            ids = words(random_demand(task, random, held_out).caption(wording))["input_ids"]
            assert words.unk_token_id not in ids
            assert len(ids) <= LONGEST


def test_base_models_learn_from_captions_that_are_as_wrong_as_is_said() -> None:
    wrong: dict[str, list[bool]] = {task: [] for task in TASKS}
    for caption, image in itertools.islice(captioned(3), 6 * 300):
        demand = _parsed(caption)
        assert not demand.held_out
        wrong[demand.task].append(not obeys(demand, image))
    for task, found in wrong.items():
        assert abs(np.mean(found) - WRONG[task]) < 0.1, task


@pytest.mark.parametrize("process", ["epsilon", "v", "flow"])
def test_samples_are_checked(process: str, tmp_path: Path) -> None:
    policy = opened(f"toy:shapes?process={process}&steps=1")
    assert isinstance(policy, ShapesPolicy)
    assert policy.kind == ("flow" if process == "flow" else "diffusion")
    found = policy.check(policy.network)
    assert len(found.pop("single checks")) > 12
    assert [len(passed) for passed in found.values()] == [6, 6, 1, 1, 1, 1, 1, 1]
    assert not (found.pop("pass_rate") & ~found["GenEval-like total"]).any()
    total = found.pop("GenEval-like total").sum()
    assert total == sum(passed.sum() for passed in found.values())
    text = policy.illustrate(policy.network, tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG") and "24 samples" in text


def test_right_images_pass_and_others_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check reads what the pipeline draws: scenes that were drawn for the captions in its place all pass."""
    from PIL import Image

    policy, random = opened(), np.random.default_rng(0)

    def right(captions: list[str], *options: Any) -> list[Any]:
        return [Image.fromarray(render(scene_for(_parsed(caption), random))) for caption in captions]

    monkeypatch.setattr(policy, "images", right)
    found = policy.check(policy.network)
    assert all(passed.all() for passed in found.values())
    monkeypatch.setattr(policy, "images", lambda captions, *options: right(captions[::-1]))
    assert not policy.check(policy.network)["pass_rate"].all()


def test_a_sample_does_not_depend_on_those_beside_it() -> None:
    policy = opened()
    captions = ["a red circle", "two blue squares", "a green cross"]
    together = policy.images(captions, steps=2, guidance=3.0)
    alone = policy.images(captions[:1], steps=2, guidance=3.0)
    off = np.abs(np.asarray(together[0], float) - np.asarray(alone[0], float)).max()
    assert off <= 1  # of 255: rounding of products in batches of another size
    assert np.abs(np.asarray(together[0], float) - np.asarray(together[1], float)).max() > 1


@pytest.mark.parametrize("lora", [False, True])
def test_a_trained_model_opens_and_knows_what_it_is(tmp_path: Path, lora: bool) -> None:
    policy = opened(lora=lora, lora_rank=2)
    run = tmp_path / "run"
    rather.train(
        model=policy,
        data="world:shapes?pairs=8",
        eval_data="world:shapes?split=eval&pairs=4",
        method="diffusion_dpo",
        batch_size=4,
        max_steps=2,
        learning_rate=1e-2,
        output=str(run),
        quiet=True,
    )
    again = opened(str(run / "model"), lora=lora, lora_rank=2)
    assert isinstance(again, ShapesPolicy)
    told, before = (
        [p.images(["a red circle"], steps=2) for p in (policy, again)],
        opened().images(["a red circle"], steps=2),
    )
    pixels = [np.asarray(images[0], float) for images in (*told, before)]
    assert np.abs(pixels[0] - pixels[1]).max() <= 1
    assert np.abs(pixels[0] - pixels[2]).max() > 1
    assert (run / "samples" / "after.png").is_file()


def test_an_interrupted_pretraining_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "_KEPT", 2)
    monkeypatch.setattr(pretraining, "BATCH", 2)
    monkeypatch.setattr(reading, "BATCH", 2)

    def fresh() -> Any:
        torch.manual_seed(0)
        return build("v", weights.autoencoder())

    whole, stopped, again = fresh(), fresh(), fresh()
    pretraining.pretrain(whole, 5, 0)

    def stop(step: int, loss: float) -> None:
        if step == 3:
            raise KeyboardInterrupt

    kept = tmp_path / "kept"
    with pytest.raises(KeyboardInterrupt):
        pretraining.pretrain(stopped, 5, 0, kept, stop)
    seen: list[int] = []
    pretraining.pretrain(again, 5, 0, kept, lambda step, loss: seen.append(step))
    assert seen == [3, 4, 5]
    for one, other in zip(whole.unet.parameters(), again.unet.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("toy:shapes?process=vv", "process=vv"),
        ("toy:shapes?proces=v", "there is no option 'proces'"),
        ("toy:shapes?steps=0", "steps=0"),
    ],
)
def test_wrong_options_are_named(model: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        opened(model)
