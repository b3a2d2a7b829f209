"""Image pipelines of the true classes, tiny and random: what is scored is what the paper's formula and diffusers itself say."""

from __future__ import annotations

import builtins
import copy
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rather.data.types import Comparison, Edge
from rather.errors import UserError
from rather.methods.registry import get
from rather.policies.base import Batch
from rather.policies.noising import Stored
from rather.policies.pipelines import convolution, store
from rather.policies.pipelines.pixels import framed
from rather.policies.registry import open_policy
from rather.policies.settings import PolicySettings
from rather.training.drawing import make_draw
from rather.training.learner import Learner
from rather.training.references import AdaptersOff, Frozen
from tiny_images import KINDS, SIDE, opened, png, rows

SQUARE = (SIDE, SIDE)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATHER_CACHE", str(tmp_path / "cache"))


def open_with(**settings: Any) -> Any:
    return open_policy(PolicySettings.model_validate(settings))


def pairs(number: int = 3) -> list[Comparison]:
    return [
        Comparison(f"c{i}", row["prompt"], (row["chosen"], row["rejected"]), (Edge(0, 1),))
        for i, row in enumerate(rows(number))
    ]


def in_float64(batch: Batch) -> Batch:
    return replace(batch, inputs={name: value.double() for name, value in batch.inputs.items()})


def test_diffusion_dpo_is_its_formula(folders: dict[str, str]) -> None:
    """mapo spec 3.1: -log sigma(-beta/2 [(m_w - m_l) - (r_w - r_l)]), mean squared errors, written out for the UNet."""
    policy = opened(folders["sd"])
    network = policy.network.double()
    reference = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    batch = in_float64(policy.collate(policy.encode(pairs())))
    draw = policy.draw(batch, 7)
    objective = get("diffusion_dpo").objective(beta=50.0)
    outcome = objective(policy.score(network, batch, draw), policy.score(reference, batch, draw), batch.layout)

    mean, std = batch.inputs["latents"], batch.inputs["std"]
    clean = policy.clean(batch, 7)
    assert ((clean - mean) / std).abs().max() < 7
    abar = policy.pipeline.scheduler.alphas_cumprod.double()[draw.timestep].view(-1, 1, 1, 1)
    noise = draw.target
    assert torch.equal(noise[0::2], noise[1::2]), "the two images of a pair share their noise"
    assert torch.equal(draw.timestep[0::2], draw.timestep[1::2])
    noisy = abar.sqrt() * clean + (1 - abar).sqrt() * noise

    def errors(model: Any) -> Tensor:
        found = model(noisy, draw.timestep, encoder_hidden_states=batch.inputs["states"]).sample
        return (found - noise).square().mean((1, 2, 3))

    m, r = errors(network), errors(reference)
    logit = -0.5 * 50.0 * ((m[0::2] - m[1::2]) - (r[0::2] - r[1::2]))
    (term,) = outcome.terms
    assert term.values.detach() == pytest.approx(-torch.nn.functional.logsigmoid(logit).detach(), abs=1e-9)


def test_a_steps_gradients_are_those_of_two_plain_models(folders: dict[str, str]) -> None:
    policy = opened(folders["sd"])
    network = policy.network.double()
    plain, frozen = copy.deepcopy(network), copy.deepcopy(network)
    batch = in_float64(policy.collate(policy.encode(pairs())))
    draw = policy.draw(batch, 3)
    with torch.no_grad():
        for model in (network, plain):
            generator = torch.Generator().manual_seed(0)
            for parameter in model.parameters():
                parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
        of_reference = policy.score(frozen, batch, draw)
    objective = get("diffusion_dpo").objective(beta=500.0)
    (term,) = objective(policy.score(network, batch, draw), of_reference, batch.layout).terms
    term.values.mean().backward()

    def errors(model: Any, row: int) -> Tensor:
        one = slice(row, row + 1)
        found = model(draw.noisy[one], draw.timestep[one], batch.inputs["states"][one]).sample
        return (found - draw.target[one]).square().mean()

    losses = []
    for pair in range(3):
        with torch.no_grad():
            reference = errors(frozen, 2 * pair) - errors(frozen, 2 * pair + 1)
        ahead = errors(plain, 2 * pair) - errors(plain, 2 * pair + 1) - reference
        losses.append(-torch.nn.functional.logsigmoid(-0.5 * 500.0 * ahead))
    torch.stack(losses).mean().backward()
    largest = max(float(p.grad.abs().max()) for p in plain.parameters() if p.grad is not None)
    for own, other in zip(network.parameters(), plain.parameters(), strict=True):
        assert (own.grad is None) == (other.grad is None)
        if own.grad is not None and other.grad is not None:
            assert float((own.grad - other.grad).abs().max()) < 1e-9 * largest


@pytest.mark.parametrize("shape", [SQUARE, (24, 40)])
@pytest.mark.parametrize("kind", KINDS)
def test_the_denoiser_gets_what_diffusers_gives_it(folders: dict[str, str], kind: str, shape: tuple[int, int]) -> None:
    """Captured from the pipeline's own call: the same latents and time give the same prediction."""
    policy = opened(folders[kind], image_buckets=True)
    high, wide = shape
    pipeline, seen = policy.pipeline, []
    network = policy.network
    forward = network.forward

    def spy(*args: Any, **kwargs: Any) -> Any:
        found = forward(*args, **kwargs)
        seen.append((args, kwargs, found[0]))
        return found

    caption = "a red square"
    batch = policy.collate(policy.encode([Comparison("c", caption, (png(0, (wide, high)),))]))
    network.forward = spy
    try:
        more: dict[str, Any] = {"guidance_scale": 1.0}
        if kind == "flux":
            more = {"guidance_scale": 3.5, "max_sequence_length": 16}
        size = {"height": high, "width": wide}
        pipeline(prompt=caption, num_inference_steps=3, output_type="latent", **size, **more)
    finally:
        network.forward = forward
    args, kwargs, expected = seen[1]
    noisy = args[0] if args else kwargs["hidden_states"]
    told = (args[1] if len(args) > 1 else kwargs["timestep"]).reshape(-1)[:1]
    flow = policy.kind == "flow"
    sigma = told / 1000 if kind == "sd3" else told
    timestep = (policy.schedule.sigma - sigma.double()).abs().argmin().reshape(1) if flow else told.long()
    unpacked = noisy
    if kind == "flux":
        unpacked = pipeline._unpack_latents(noisy, high, wide, pipeline.vae_scale_factor)
        expected = pipeline._unpack_latents(expected, high, wide, pipeline.vae_scale_factor)
    if flow:  # the sampler's times lie between those of training: ours is told the same one
        nearest = policy.schedule.sigma[timestep]
        schedule = replace(policy.schedule, sigma=policy.schedule.sigma + (sigma.double() - nearest))
        found = policy.architecture.predict(network, unpacked, timestep, batch.inputs, schedule)
    else:
        found = policy.predict(network, unpacked, timestep, batch.inputs)
    assert found.shape == unpacked.shape
    found, expected = found.detach(), expected.detach()
    assert float((found - expected).abs().max()) < 1e-5 * float(expected.abs().max())


@pytest.mark.parametrize("kind", ["sd", "sd-v", "sd3"])
def test_noise_and_target_are_the_schedulers(folders: dict[str, str], kind: str) -> None:
    policy = opened(folders[kind])
    batch = policy.collate(policy.encode(pairs()))
    draw, clean = policy.draw(batch, 1), policy.clean(batch, 1)
    scheduler = policy.pipeline.scheduler
    if kind == "sd3":
        sigma = scheduler.sigmas.flip(0)[draw.timestep].view(-1, 1, 1, 1)  # as diffusers trains: with its shift
        noise = draw.target + clean
        assert torch.allclose(draw.noisy, (1 - sigma) * clean + sigma * noise, atol=1e-5)
        assert float(policy.schedule.sigma[499]) == pytest.approx(0.75)  # 3 s / (1 + 2 s) at one half
        return
    abar = scheduler.alphas_cumprod[draw.timestep].view(-1, 1, 1, 1)
    noise = (draw.noisy - abar.sqrt() * clean) / (1 - abar).sqrt()
    assert torch.allclose(draw.noisy, scheduler.add_noise(clean, noise, draw.timestep), atol=1e-5)
    expected = noise if kind == "sd" else scheduler.get_velocity(clean, noise, draw.timestep)
    assert torch.allclose(draw.target, expected, atol=2e-3)


def test_latents_are_those_of_the_vae(folders: dict[str, str]) -> None:
    policy = opened(folders["sd3"])
    image = png(5, (SIDE, SIDE))
    batch = policy.collate(policy.encode([Comparison("c", "a cat", (image,))]))
    pixels = torch.from_numpy(framed(image, SQUARE).pixels)[None]
    vae = policy.pipeline.vae
    known = vae.encode(pixels).latent_dist
    assert torch.allclose(batch.inputs["latents"], (known.mean - 0.1) * vae.config.scaling_factor, atol=1e-6)
    assert torch.allclose(batch.inputs["std"], known.std * vae.config.scaling_factor, atol=1e-6)


def test_a_draw_does_not_depend_on_its_neighbours(folders: dict[str, str]) -> None:
    policy = opened(folders["sd"])
    encoded = policy.encode(pairs(4))

    def draw(items: list[Any]) -> Any:
        batch = policy.collate(items)
        return policy.in_training(policy.draw(batch, 5), batch, 5)

    together = draw(encoded)
    for number, one in enumerate(encoded):
        alone = draw([one])
        part = slice(2 * number, 2 * number + 2)
        assert torch.equal(together.noisy[part], alone.noisy)
        assert torch.equal(together.unprompted[part], alone.unprompted)


def test_captions_are_left_out_in_training_only_and_for_both_images(folders: dict[str, str]) -> None:
    policy = opened(folders["sd"], caption_drop=0.3)
    batch = policy.collate(policy.encode([replace(pairs(1)[0], id=f"c{i}") for i in range(300)]))
    policy.network.train()
    assert policy.draw(batch, 0).unprompted is None, "in evaluation, whatever the mode"
    dropped = policy.in_training(policy.draw(batch, 0), batch, 0).unprompted
    assert torch.equal(dropped[0::2], dropped[1::2])
    assert 0.2 < float(dropped.float().mean()) < 0.4
    few = policy.collate(policy.encode(pairs(2)))
    draw = replace(policy.draw(few, 0), unprompted=torch.tensor([True, True, False, False]))
    states = policy.unprompted(few.inputs, draw.unprompted)["states"]
    assert torch.equal(states[2:], few.inputs["states"][2:])
    blank = policy.architecture.texts(policy.pipeline, [""], torch.device("cpu"))["states"]
    assert torch.allclose(states[0], blank[0], atol=1e-6)
    assert torch.allclose(policy.unprompted(few.inputs)["states"], blank.expand_as(states), atol=1e-6)
    dropped_scores = policy.score(policy.network, few, draw).elements
    full_scores = policy.score(policy.network, few, replace(draw, unprompted=None)).elements
    half = len(full_scores) // 2
    assert not torch.equal(dropped_scores[:half], full_scores[:half])
    assert torch.equal(dropped_scores[half:], full_scores[half:])


@pytest.mark.parametrize(("inverter", "lora"), [("policy", False), ("reference", False), ("reference", True)])
def test_a_caption_that_is_left_out_was_seen_by_the_inversion(
    folders: dict[str, str], inverter: str, lora: bool
) -> None:
    """The inverted latents are those without any drop, to the bit; the scores of both networks are without the caption."""
    told = {"noising.steps": 3, "noising.inverter": inverter}
    objective = get("inpo").objective(**told)
    found = {}
    for drop in (0.0, 0.5):
        policy = opened(folders["sd"], caption_drop=drop, lora=lora, lora_rank=2)
        learner = Learner(policy, objective)
        reference = AdaptersOff(learner, policy) if lora else Frozen(policy, noising=objective.noising)
        batch = policy.collate(policy.encode([replace(pairs(1)[0], id=f"c{i}") for i in range(8)]))
        learner.train()
        draw = make_draw(policy, learner, reference, objective.noising, batch, 5)
        found[drop] = (draw, reference.score(batch, draw).elements.reshape(16, -1), policy.network.training)
    (whole, scored, _), (some, scored_without, training) = found[0.0], found[0.5]
    assert training, "the network is left in its mode"
    assert whole.unprompted is None
    assert torch.equal(some.noisy, whole.noisy) and torch.equal(some.target, whole.target)
    dropped = some.unprompted
    assert torch.equal(dropped[0::2], dropped[1::2]) and 0 < int(dropped.sum()) < 16
    same = (scored == scored_without).all(-1)
    assert torch.equal(same, ~dropped)


def test_images_and_captions_are_encoded_once(folders: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    first = opened(folders["sd"])
    once = first.collate(first.encode(pairs())).inputs
    again = opened(folders["sd"])

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("encoded a second time")

    monkeypatch.setattr(again.pipeline.vae, "encode", refuse)
    monkeypatch.setattr(again.pipeline, "encode_prompt", refuse)
    twice = again.collate(again.encode(pairs())).inputs
    assert all(torch.equal(once[name], twice[name]) for name in once)
    assert first.fingerprint() == again.fingerprint()
    with pytest.raises(AssertionError, match="second time"):
        again.encode([replace(pairs(1)[0], prompt="another caption")])
    larger = open_with(model=folders["sd"], image_size=2 * SIDE, precision="fp32")
    assert larger.fingerprint() != first.fingerprint()
    other = opened(folders["sd"])
    with torch.no_grad():
        other.pipeline.vae.encoder.conv_in.weight.add_(1.0)
    rebuilt = type(other)(other.pipeline, other.architecture, other.schedule, other.settings, other.name)
    assert rebuilt.fingerprint() != first.fingerprint()
    assert rebuilt._latents.folder != first._latents.folder


def test_a_stored_file_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = store.Store("latents", "f")
    monkeypatch.setattr(store.os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        kept.fill({"ab": 1}, lambda _: [{"x": torch.ones(2)}], 1)
    monkeypatch.undo()
    monkeypatch.setenv("RATHER_CACHE", str(tmp_path / "cache"))
    assert not kept.path("ab").exists()
    assert kept.fill({"ab": 1}, lambda _: [{"x": torch.ones(2)}], 1) == 1
    assert kept.fill({"ab": 1}, lambda _: [{"x": torch.zeros(2)}], 1) == 0
    assert kept.read("ab")["x"].tolist() == [1.0, 1.0]


def test_stored_noise_is_used(folders: dict[str, str]) -> None:
    policy = opened(folders["sd3"])
    noise = np.random.default_rng(0).normal(size=(2, *policy.latent_shape((SIDE, SIDE)))).astype(np.float32)
    with_noise = [replace(pairs(1)[0], extras={"noise": noise.tolist()})]
    batch = policy.collate(policy.encode(with_noise))
    draw = policy.draw(batch, 0, Stored())
    assert torch.allclose(draw.target, torch.from_numpy(noise) - policy.clean(batch, 0), atol=1e-6)
    policy.encode([replace(pairs(1)[0], extras={"noise": [1.0, 2.0]})])
    assert list(policy.report.dropped) == ["the stored noise of a response is not 4 x 8 x 8 numbers"]


@pytest.mark.parametrize("kind", ["sd", "sdxl", "sd3", "flux"])
def test_adapters_load_in_plain_diffusers_and_change_the_image(
    folders: dict[str, str], kind: str, tmp_path: Path
) -> None:
    import diffusers

    policy = opened(folders[kind], lora=True, lora_rank=2)
    trained = [parameter for parameter in policy.network.parameters() if parameter.requires_grad]
    assert 0 < sum(p.numel() for p in trained) < sum(p.numel() for p in policy.network.parameters()) / 3
    batch = policy.collate(policy.encode(pairs()))
    draw = policy.draw(batch, 0)
    plain = policy.score(opened(folders[kind]).network, batch, draw).elements
    # To rounding: where weights lie in memory decides how some processors add.
    fresh_scores = policy.score(policy.network, batch, draw).elements
    assert torch.allclose(fresh_scores, plain, atol=1e-6), "a fresh adapter is the identity"
    with torch.no_grad():
        for parameter in trained:
            parameter.add_(0.3)
    moved = policy.score(policy.network, batch, draw).elements
    assert not torch.allclose(moved, plain, atol=1e-4)
    with policy.adapters_off(policy.network):
        assert torch.allclose(policy.score(policy.network, batch, draw).elements, plain, atol=1e-6)
    policy.save(policy.network, tmp_path / "model")

    none: dict[str, Any] = {"text_encoder_3": None, "tokenizer_3": None} if kind == "sd3" else {}
    fresh: Any = diffusers.DiffusionPipeline.from_pretrained(folders[kind], **none)
    fresh.set_progress_bar_config(disable=True)
    options = {"height": SIDE, "width": SIDE, "num_inference_steps": 2, "output_type": "np"}

    def image() -> np.ndarray:
        return fresh(prompt="a cat", generator=torch.Generator().manual_seed(0), **options).images

    before = image()
    fresh.load_lora_weights(str(tmp_path / "model"))
    after = image()
    assert np.abs(after - before).max() > 1e-3
    again = open_with(model=str(tmp_path / "model"), image_size=SIDE, precision="fp32", lora=True)
    assert torch.allclose(again.score(again.network, batch, draw).elements, moved, atol=1e-4)
    assert again.adapters_off(again.network) is None, "loaded adapters are no identity"


def scores_and_slopes(policy: Any, batch: Any, draw: Any) -> tuple[Tensor, Tensor]:
    """Elements' scores, and the gradient of their mean."""
    elements = policy.score(policy.network, batch, draw).elements
    weights = [p for p in policy.network.parameters() if p.requires_grad]
    found = torch.autograd.grad(elements.mean(), weights, allow_unused=True)
    return elements.detach(), torch.cat([g.flatten() for g in found if g is not None])


@pytest.mark.parametrize("kind", ["sd", "sdxl"])
def test_convolutions_as_products_change_no_number(
    folders: dict[str, str], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {"model": folders[kind], "image_size": SIDE, "precision": "fp32", "lora": True, "lora_rank": 2}
    plain = open_with(**told)
    monkeypatch.setattr(convolution, "_MANY", 0)
    monkeypatch.setattr(convolution, "_few_pixels", lambda x, channels: True)
    ours, taken = open_with(**told), []
    honest = convolution._neighbours
    monkeypatch.setattr(convolution, "_neighbours", lambda x, side: taken.append(side) or honest(x, side))
    batch = plain.collate(plain.encode(pairs()[:1]))
    draw = plain.draw(batch, 0)
    found = [scores_and_slopes(policy, batch, draw) for policy in (plain, ours)]
    assert taken
    for theirs, mine in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["sd", "sdxl", "sd3", "flux"])
def test_frozen_weights_are_held_in_the_type_of_the_products(folders: dict[str, str], kind: str) -> None:
    """What autocast would make of them in each pass: scores and gradients are rounded no more than by autocast alone."""
    policy = open_with(model=folders[kind], image_size=SIDE, precision="bf16", lora=True, lora_rank=2)
    layers = [m for m in policy.network.modules() if isinstance(m, torch.nn.Linear | torch.nn.Conv2d)]
    types = {p.requires_grad: p.dtype for layer in layers for p in layer.parameters(recurse=False)}
    assert types == {True: torch.float32, False: torch.bfloat16}
    plain = opened(folders[kind], lora=True, lora_rank=2)
    with torch.no_grad():
        for network in (policy.network, plain.network):
            torch.manual_seed(1)
            for parameter in network.parameters():
                if parameter.requires_grad:
                    parameter.copy_(0.1 * torch.randn_like(parameter))
    batch = policy.collate(policy.encode(pairs()))
    draw = policy.draw(batch, 0)

    def scored(told: Any, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        told.dtype = dtype
        return scores_and_slopes(told, batch, draw)

    exact, usual, ours = (
        scored(plain, torch.float32),
        scored(plain, torch.bfloat16),
        scored(policy, torch.bfloat16),
    )
    for true, rounded, held in zip(exact, usual, ours, strict=True):
        off, allowed = (held - true).norm(), (rounded - true).norm()
        assert 0 < off < 1.5 * allowed
    assert policy.images(["a cat"], steps=1)[0].size == (SIDE, SIDE)


@pytest.mark.parametrize("kind", ["sd", "flux"])
def test_a_whole_pipeline_is_saved(folders: dict[str, str], kind: str, tmp_path: Path) -> None:
    import diffusers

    policy = opened(folders[kind])
    with torch.no_grad():
        for parameter in policy.network.parameters():
            parameter.add_(0.05)
    policy.save(policy.network, tmp_path / "model")
    found = diffusers.DiffusionPipeline.from_pretrained(str(tmp_path / "model"))
    network = getattr(found, policy.architecture.component)
    for own, other in zip(policy.network.parameters(), network.parameters(), strict=True):
        assert torch.equal(own, other)


def test_samples_have_the_same_noise_and_follow_the_network(folders: dict[str, str], tmp_path: Path) -> None:
    policy = opened(folders["sd"])
    policy.encode(pairs())
    one, two = (np.asarray(policy.images(["a cat"], steps=2)[0], np.int16) for _ in range(2))
    assert np.array_equal(one, two)
    with torch.no_grad():
        for parameter in policy.network.parameters():
            parameter.add_(0.05)
    assert np.abs(np.asarray(policy.images(["a cat"], steps=2)[0], np.int16) - one).max() > 0
    assert policy.illustrate(policy.network, tmp_path / "x.png") == "a red square; two blue circles; a cat"
    from PIL import Image

    assert Image.open(tmp_path / "x.png").size == (3 * SIDE, SIDE)


def test_pictures_of_every_kind_are_read() -> None:
    wide = framed(png(0, (64, 40)), SQUARE)
    assert wide.pixels.shape == (3, SIDE, SIDE)
    assert wide.framing == (40, 64, 0, 9, SIDE, SIDE)
    grey = framed(png(0, (SIDE, SIDE), "L"), SQUARE).pixels
    assert np.array_equal(grey[0], grey[2])
    assert framed(png(0, (SIDE, SIDE), "RGBA"), SQUARE).pixels.max() <= 1.0
    plain, mirrored = framed(png(3, (SIDE, SIDE)), SQUARE), framed(png(3, (SIDE, SIDE)), SQUARE, flip=True)
    assert np.array_equal(plain.pixels[:, :, ::-1], mirrored.pixels)


def test_what_is_transparent_is_white() -> None:
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGBA", (SIDE, SIDE), (255, 0, 0, 0)).save(buffer, format="PNG")
    assert np.array_equal(framed(buffer.getvalue(), SQUARE).pixels, np.ones((3, SIDE, SIDE), np.float32))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"responses": (b"\x89PNG broken", png(1))}, "the image cannot be read"),
        ({"responses": (png(0)[:-200], png(1))}, "the image cannot be read"),
        ({"responses": ("/nowhere/image.png", png(1))}, "the image /nowhere/image.png cannot be read"),
        ({"responses": (3, png(1))}, "a response is a int, not an image's bytes or path"),
        ({"prompt": "  "}, "the caption is empty"),
        ({"prompt": 7}, "the caption of an image is not text"),
    ],
)
def test_a_broken_pair_is_left_out_with_its_reason(
    folders: dict[str, str], change: dict[str, Any], reason: str
) -> None:
    policy = opened(folders["sd"])
    found = policy.encode([replace(pairs(1)[0], **change), *pairs(2)[1:]])
    assert [item.comparison.id for item in found] == ["c1"]
    (told,) = policy.report.dropped
    assert told.startswith(reason)


def edited(source: str, target: Path, path: str, **values: Any) -> str:
    import shutil

    shutil.copytree(source, target)
    file = target / path
    known = json.loads(file.read_text())
    known.update(values)
    file.write_text(json.dumps({key: value for key, value in known.items() if value is not ...}))
    return str(target)


@pytest.mark.parametrize(
    ("path", "values", "message"),
    [
        ("model_index.json", {"vae": ...}, "the pipeline has no vae"),
        ("model_index.json", {"scheduler": [None, None]}, "the pipeline has no scheduler"),
        ("model_index.json", {"_class_name": "StableDiffusionPipelin"}, "StableDiffusionPipeline"),
        ("model_index.json", {"_class_name": ["own", "Pipeline"]}, "are not supported"),
        ("scheduler/scheduler_config.json", {"prediction_type": "sample"}, "prediction type 'sample'"),
    ],
)
def test_a_pipeline_that_does_not_do(
    folders: dict[str, str], tmp_path: Path, path: str, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError) as refused:
        opened(edited(folders["sd"], tmp_path / "broken", path, **values))
    assert message in str(refused.value)


def test_other_mistakes(folders: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="not a multiple of 8"):
        open_with(model=folders["sd"], image_size=30)
    with pytest.raises(UserError, match="no layer can take an adapter"):
        opened(folders["sd"], lora=True, lora_targets="nothing")
    swapped = edited(folders["sd3"], tmp_path / "sd3", "model_index.json", scheduler=["diffusers", "DDIMScheduler"])
    with pytest.raises(UserError, match="none of a rectified flow"):
        opened(swapped)
    only = tmp_path / "pickled"
    edited(folders["sd"], only, "model_index.json")
    weights = only / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(UserError, match="safetensors"):
        opened(str(only))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="neither a folder nor a pipeline of the hub"):
        open_with(model="image:nobody/nothing")
    with pytest.raises(UserError, match=r"there is no model_index\.json"):
        open_with(model=f"image:{tmp_path}")
    importing = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "diffusers":
            raise ImportError(name)
        return importing(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"rather\[images\]"):
        opened(folders["sd"])


def test_a_tie_is_log_two(folders: dict[str, str]) -> None:
    policy = opened(folders["sd-v"])
    batch = policy.collate(policy.encode(pairs()))
    scores = policy.score(policy.network, batch, policy.draw(batch, 0))
    (term,) = get("diffusion_dpo").objective()(scores, scores, batch.layout).terms
    assert term.values.tolist() == pytest.approx([math.log(2)] * 3)
