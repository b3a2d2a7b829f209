"""Buckets of proportions: which shape an image gets, what becomes of it there, and what may share a batch."""

from __future__ import annotations

import copy
import io
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import tiny_images
from rather.data.refusal import Refused
from rather.data.types import Comparison, Edge
from rather.methods.registry import get
from rather.policies.pipelines.buckets import nearest, shapes
from rather.policies.pipelines.pixels import framed, shape_of
from rather.policies.pipelines.policy import preferred
from rather.training.learner import Learner
from rather.training.plan import cut
from tiny_images import SIDE, png

SIZES = {"square": (36, 36), "wide": (100, 40), "high": (30, 50), "mild": (52, 36)}
"""Width and height of pictures."""


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATHER_CACHE", str(tmp_path / "cache"))


def opened(folder: str, **settings: Any) -> Any:
    return tiny_images.opened(folder, **{"image_buckets": True, **settings})


def pair(
    name: str, chosen: tuple[int, int], rejected: tuple[int, int] | None = None, turned: bool = False
) -> Comparison:
    seed = sum(map(ord, name))
    images = (png(seed, chosen), png(seed + 1, rejected or chosen))
    return Comparison(name, "a cat", images[::-1] if turned else images, (Edge(1, 0) if turned else Edge(0, 1),))


def mixed() -> list[Comparison]:
    return [pair(f"{name}{i}", size) for i in range(2) for name, size in SIZES.items()]


def test_the_shapes_of_a_large_image_are_those_of_the_trade() -> None:
    found = shapes(1024, 16)
    assert found[0] == (1024, 1024)
    assert {(896, 1152), (832, 1216), (768, 1344), (640, 1536), (512, 2048)} <= set(found)
    assert max(max(shape) for shape in shapes(1024, 16, 1536)) == 1536


@given(st.integers(1, 40), st.sampled_from([8, 16, 32]))
def test_shapes_are_of_one_area(count: int, unit: int) -> None:
    size = count * unit
    found = shapes(size, unit)
    step = 64 if size >= 512 and size % 64 == 0 else unit
    assert found[0] == (size, size)
    assert len(set(found)) == len(found)
    for high, wide in found:
        assert (wide, high) in found
        assert high % unit == wide % unit == 0
        assert high * wide <= size**2 < (min(high, wide) + step) * max(high, wide)


@given(st.integers(1, 5000), st.integers(1, 5000), st.sampled_from([512, 640, 1024]))
def test_an_image_gets_the_nearest_proportions(height: int, width: int, size: int) -> None:
    among = shapes(size, 16)
    found = nearest(height, width, among)

    def off(shape: tuple[int, int]) -> float:
        return abs(math.log(shape[1] / shape[0]) - math.log(width / height))

    assert off(found) <= min(off(shape) for shape in among) + 1e-8
    assert nearest(width, height, among) == found[::-1]
    assert nearest(height, height, among) == (size, size)


@pytest.mark.parametrize(("size", "orientation"), [((64, 40), 1), ((64, 40), 6), ((40, 64), 8), ((64, 40), 3)])
def test_the_shape_is_that_of_the_image_as_it_is_shown(size: tuple[int, int], orientation: int) -> None:
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.open(io.BytesIO(png(0, size))).save(buffer, format="PNG", exif=exif)
    sideways = orientation in (6, 8)
    assert shape_of(buffer.getvalue()) == (size if sideways else size[::-1])
    assert framed(buffer.getvalue(), (32, 32)).framing[:2] == shape_of(buffer.getvalue())
    with pytest.raises(Refused, match="cannot be read"):
        shape_of(b"\x89PNG broken")


def test_an_image_covers_its_bucket() -> None:
    """Scaled until both sides are covered; what is left over is cut off half at each end."""
    found = framed(png(0, (80, 40)), (24, 40))
    assert found.pixels.shape == (3, 24, 40)
    assert found.framing == (40, 80, 0, 4, 24, 40)
    assert framed(png(0, (30, 50)), (40, 24)).framing == (50, 30, 0, 0, 40, 24)
    left = framed(png(0, (48, 24)), (24, 40)).pixels
    whole = framed(png(0, (48, 24)), (24, 48)).pixels
    assert np.array_equal(left, whole[:, :, 4:44])


@pytest.mark.parametrize("kind", ["sd", "sdxl", "sd3", "flux"])
def test_latents_have_the_shape_of_their_bucket(folders: dict[str, str], kind: str) -> None:
    policy = opened(folders[kind])
    encoded = policy.encode(mixed())
    scale, vae = policy.pipeline.vae_scale_factor, policy.pipeline.vae
    for item, (name, (wide, high)) in zip(encoded, list(SIZES.items()) * 2, strict=True):
        shape = nearest(high, wide, policy.shapes)
        assert item.bucket == shape, name
        batch = policy.collate([item])
        latents = batch.inputs["latents"]
        assert latents.shape[2:] == (shape[0] // scale, shape[1] // scale)
        assert item.lengths == (latents[0].numel(),) * 2
        pixels = torch.from_numpy(framed(item.comparison.responses[0], shape).pixels)[None]
        with torch.no_grad():
            known = vae.encode(pixels).latent_dist.mean
        shift = getattr(vae.config, "shift_factor", None) or 0.0
        assert torch.allclose(latents[0], (known[0] - shift) * vae.config.scaling_factor, atol=1e-5)
        assert batch.inputs["framing"][0].tolist() == [
            high,
            wide,
            *framed(item.comparison.responses[0], shape).framing[2:],
        ]
        score = policy.score(policy.network, batch, policy.draw(batch, 0))
        assert score.elements.numel() == sum(item.lengths) and bool(score.elements.isfinite().all())
    assert len({item.bucket for item in encoded}) == 4
    square = opened(folders[kind], image_buckets=False)
    assert {item.bucket for item in square.encode(mixed())} == {(SIDE, SIDE)}


def test_both_images_go_to_the_chosen_ones_bucket(folders: dict[str, str]) -> None:
    policy = opened(folders["sd"])
    wide, high = SIZES["wide"], SIZES["high"]
    one, two, three = policy.encode([pair("a", wide, high), pair("b", high, wide), pair("c", wide, high, turned=True)])
    assert one.bucket == nearest(40, 100, policy.shapes) == three.bucket
    assert two.bucket == nearest(50, 30, policy.shapes)
    draw = policy.draw(policy.collate([one]), 0)
    assert draw.noisy.shape[2:] == (one.bucket[0] // 4, one.bucket[1] // 4)
    edges = (Edge(1, 0), Edge(2, 1), Edge(2, 0))
    assert preferred(Comparison("r", "a cat", (b"", b"", b""), edges)) == 2
    assert preferred(Comparison("r", "a cat", (b"",))) == 0


def test_latents_are_kept_by_bucket(folders: dict[str, str]) -> None:
    """One image as the chosen one of a wide pair, as the other of a high one, and cut to a square: three latents."""
    policy, square = opened(folders["sd"]), opened(folders["sd"], image_buckets=False)
    picture, high = png(1, SIZES["wide"]), png(2, SIZES["high"])
    pairs = [
        Comparison("a", "a cat", (picture, high), (Edge(0, 1),)),
        Comparison("b", "a cat", (high, picture), (Edge(0, 1),)),
    ]
    first, second = policy.encode(pairs)
    (third, _) = square.encode(pairs)
    keys = {first.inputs["images"][0], second.inputs["images"][1], third.inputs["images"][0]}
    assert len(keys) == 3
    assert policy._latents.folder == square._latents.folder
    assert policy.fingerprint() != square.fingerprint()
    again = opened(folders["sd"])
    again.pipeline.vae.encode = None  # nothing is encoded a second time
    assert [item.inputs for item in again.encode(pairs)] == [first.inputs, second.inputs]


def test_stored_noise_has_the_shape_of_the_bucket(folders: dict[str, str]) -> None:
    policy = opened(folders["sd3"])
    picture = pair("a", SIZES["wide"])
    shape = policy.latent_shape(policy.encode([picture])[0].bucket)
    noises = [np.zeros((2, *shape)), np.zeros((2, *policy.latent_shape((SIDE, SIDE))))]
    found = policy.encode(
        [replace(picture, id=f"n{i}", extras={"noise": noise.tolist()}) for i, noise in enumerate(noises)]
    )
    assert [item.comparison.id for item in found] == ["n0"]
    assert list(policy.report.dropped) == [
        f"the stored noise of a response is not {' x '.join(map(str, shape))} numbers"
    ]
    assert policy.collate(found).inputs["noise"].shape == (2, *shape)


@pytest.mark.parametrize("kind", ["sd", "sd3"])
def test_the_gradient_of_a_mixed_step_is_the_sum_of_each_comparisons(folders: dict[str, str], kind: str) -> None:
    policy = opened(folders[kind])
    policy.network.double()
    reference = copy.deepcopy(policy.network)
    with torch.no_grad():
        for number, parameter in enumerate(policy.network.parameters()):
            generator = torch.Generator().manual_seed(number)
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    encoded = policy.encode(mixed())
    learner = Learner(policy, get("diffusion_dpo").objective(beta=500.0))
    costs, buckets = [item.cost for item in encoded], [item.bucket for item in encoded]
    parts = cut(range(len(encoded)), costs, 10**9, None, buckets)
    assert [len(part) for part in parts] == [2] * 4
    counts = {"edges": 8.0, "lists": 8.0, "elements": 1.0, "responses": 16.0}
    whole = dict(policy.collate(encoded[:1]).layout.counts(), **counts)

    def gradient(groups: list[list[int]]) -> torch.Tensor:
        learner.zero_grad()
        for group in groups:
            batch = policy.collate([encoded[i] for i in group])
            batch.inputs.update({name: x.double() for name, x in batch.inputs.items()})
            draw = policy.draw(batch, 3)
            with torch.no_grad():
                scores = policy.score(reference, batch, draw)
            learner(batch, draw, scores, whole)[0].backward()
        return torch.cat([p.grad.flatten() for p in policy.network.parameters() if p.grad is not None])

    together, alone = gradient(parts), gradient([[i] for i in range(len(encoded))])
    assert float(together.abs().max()) > 0
    assert float((together - alone).abs().max()) < 1e-10 * float(alone.abs().max())
