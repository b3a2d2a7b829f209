"""ImageReward on tiny random weights under the published names, against the network written out in float64."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from rather import rewards
from rather.errors import UserError
from rather.rewards.imagereward import FILE
from tiny_images import clip_tokenizer, png

pytest.importorskip("transformers")

WIDTH, PATCH, SIDE, LAYERS, HEADS = 128, 8, 16, 2, 2
CAPTION = "a red cat"
IMAGES = [png(seed, (24, 20)) for seed in range(3)]
Tensors = dict[str, Tensor]


def weights() -> Tensors:
    """As ``ImageReward.pt`` names them, with some that are not needed."""
    drawn = torch.Generator().manual_seed(0)
    found: Tensors = {}

    def linear(name: str, out: int, into: int, *more: int) -> None:
        found[f"{name}.weight"] = torch.randn(out, into, *more, generator=drawn) / math.sqrt(into * math.prod(more))
        found[f"{name}.bias"] = 0.1 * torch.randn(out, generator=drawn)

    def norm(name: str) -> None:
        found[f"{name}.weight"] = 1 + 0.1 * torch.randn(WIDTH, generator=drawn)
        found[f"{name}.bias"] = 0.1 * torch.randn(WIDTH, generator=drawn)

    image, text = "blip.visual_encoder.", "blip.text_encoder."
    found[f"{image}cls_token"] = torch.randn(1, 1, WIDTH, generator=drawn)
    found[f"{image}pos_embed"] = torch.randn(1, 1 + (SIDE // PATCH) ** 2, WIDTH, generator=drawn)
    linear(f"{image}patch_embed.proj", WIDTH, 3, PATCH, PATCH)
    for block in (f"{image}blocks.{i}." for i in range(LAYERS)):
        linear(f"{block}attn.qkv", 3 * WIDTH, WIDTH)
        linear(f"{block}attn.proj", WIDTH, WIDTH)
        linear(f"{block}mlp.fc1", 48, WIDTH)
        linear(f"{block}mlp.fc2", WIDTH, 48)
        norm(f"{block}norm1")
        norm(f"{block}norm2")
    norm(f"{image}norm")
    found[f"{text}embeddings.word_embeddings.weight"] = torch.randn(len(clip_tokenizer()), WIDTH, generator=drawn)
    found[f"{text}embeddings.position_embeddings.weight"] = torch.randn(40, WIDTH, generator=drawn)
    found[f"{text}embeddings.position_ids"] = torch.arange(40)[None]
    norm(f"{text}embeddings.LayerNorm")
    for layer in (f"{text}encoder.layer.{i}." for i in range(LAYERS)):
        for kind in ("attention", "crossattention"):
            for part in ("self.query", "self.key", "self.value", "output.dense"):
                linear(f"{layer}{kind}.{part}", WIDTH, WIDTH)
            norm(f"{layer}{kind}.output.LayerNorm")
        linear(f"{layer}intermediate.dense", 56, WIDTH)
        linear(f"{layer}output.dense", WIDTH, 56)
        norm(f"{layer}output.LayerNorm")
    linear("blip.vision_proj", 4, WIDTH)
    for number, (out, into) in {0: (12, WIDTH), 2: (8, 12), 10: (1, 8)}.items():
        linear(f"mlp.layers.{number}", out, into)
    return found


def attention(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """[positions, width] of one example, by heads."""
    q, k, v = (x.view(len(x), HEADS, -1).transpose(0, 1) for x in (queries, keys, values))
    weight = torch.softmax(q @ k.transpose(1, 2) / math.sqrt(WIDTH // HEADS), -1)
    return (weight @ v).transpose(0, 1).reshape(len(queries), WIDTH)


def reward(found: Tensors, caption: str, image: bytes) -> float:
    """The published network, in float64."""
    w = {name: tensor.double() for name, tensor in found.items()}

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(name: str, x: Tensor, eps: float) -> Tensor:
        return F.layer_norm(x, (WIDTH,), w[f"{name}.weight"], w[f"{name}.bias"], eps)

    opened = Image.open(io.BytesIO(image)).convert("RGB")
    scale = SIDE / min(opened.size)
    wide, high = (int(side * scale) for side in opened.size)
    left, top = (wide - SIDE) // 2, (high - SIDE) // 2
    cut = opened.resize((wide, high), Image.Resampling.BICUBIC).crop((left, top, left + SIDE, top + SIDE))
    mean, deviation = torch.tensor(
        [[0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]], dtype=torch.float64
    )
    pixels = ((torch.from_numpy(np.array(cut)).double() / 255 - mean) / deviation).permute(2, 0, 1)
    at = "blip.visual_encoder."
    patches = F.conv2d(pixels[None], w[f"{at}patch_embed.proj.weight"], w[f"{at}patch_embed.proj.bias"], stride=PATCH)
    x = torch.cat([w[f"{at}cls_token"][0], patches[0].flatten(1).T]) + w[f"{at}pos_embed"][0]
    for block in (f"{at}blocks.{i}." for i in range(LAYERS)):
        parts = linear(f"{block}attn.qkv", norm(f"{block}norm1", x, 1e-6)).chunk(3, -1)
        x = x + linear(f"{block}attn.proj", attention(*parts))
        x = x + linear(f"{block}mlp.fc2", F.gelu(linear(f"{block}mlp.fc1", norm(f"{block}norm2", x, 1e-6))))
    seen = norm(f"{at}norm", x, 1e-6)

    at = "blip.text_encoder."
    ids = clip_tokenizer()(caption)["input_ids"]
    x = w[f"{at}embeddings.word_embeddings.weight"][ids] + w[f"{at}embeddings.position_embeddings.weight"][: len(ids)]
    x = norm(f"{at}embeddings.LayerNorm", x, 1e-12)
    for layer in (f"{at}encoder.layer.{i}." for i in range(LAYERS)):
        for kind, other in (("attention", None), ("crossattention", seen)):
            part = f"{layer}{kind}."
            keys, values = (linear(f"{part}self.{name}", x if other is None else other) for name in ("key", "value"))
            mixed = linear(f"{part}output.dense", attention(linear(f"{part}self.query", x), keys, values))
            x = norm(f"{part}output.LayerNorm", mixed + x, 1e-12)
        inner = F.gelu(linear(f"{layer}intermediate.dense", x))
        x = norm(f"{layer}output.LayerNorm", linear(f"{layer}output.dense", inner) + x, 1e-12)
    head = x[:1]
    for number in (0, 2, 10):
        head = linear(f"mlp.layers.{number}", head)
    return (float(head) - 0.16717362830052426) / 1.0333394966054072


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_file(weights(), tmp_path / FILE)
    clip_tokenizer().save_pretrained(str(tmp_path))
    return tmp_path


def test_scores_are_the_published_networks(folder: Path) -> None:
    judge = rewards.judge(f"imagereward:{folder}")
    found = judge.score(CAPTION, IMAGES)
    expected = [reward(weights(), CAPTION, image) for image in IMAGES]
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)
    assert np.ptp(expected) > 1e-2 and abs(expected[0] - reward(weights(), "two blue dogs", IMAGES[0])) > 1e-2
    assert judge.judges == "images" and judge.score(CAPTION, []).shape == (0,)


def test_a_preference_is_the_sigmoid_of_the_heads_difference(folder: Path) -> None:
    judge = rewards.judge(f"imagereward:{folder}")
    one, other = judge.score(CAPTION, IMAGES[:2])
    assert judge.compare(CAPTION, *IMAGES[:2]) == pytest.approx(1 / (1 + math.exp(1.0333394966054072 * (other - one))))


def test_the_tokenizer_may_lie_elsewhere(folder: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    save_file(weights(), alone / FILE)
    judge = rewards.judge(f"imagereward:{alone}?tokenizer={folder}")
    assert (
        judge.score(CAPTION, IMAGES).tolist() == rewards.judge(f"imagereward:{folder}").score(CAPTION, IMAGES).tolist()
    )
    with pytest.raises(UserError, match="no tokenizer") as caught:
        rewards.judge(f"imagereward:{alone}")
    assert "?tokenizer=" in (caught.value.fix or "")


def test_a_long_caption_is_cut(folder: Path) -> None:
    """To the published 35 tokens, the last of which ends it."""
    judge = rewards.judge(f"imagereward:{folder}")
    long, longer = "a" * 60, "a" * 33 + "b" * 60
    assert judge.score(long, IMAGES[:1]).tolist() == judge.score(longer, IMAGES[:1]).tolist()


def test_what_is_missing_is_told(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs a folder"):
        rewards.judge("imagereward:")
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError, match=f"there is no .*{FILE}") as caught:
        rewards.judge(f"imagereward:{tmp_path / 'other'}")
    assert "pickle" in (caught.value.fix or "")
    found = weights()
    del found["blip.text_encoder.encoder.layer.1.crossattention.self.key.weight"]
    save_file(found, folder / FILE)
    with pytest.raises(UserError, match="crossattention.self.key.weight is not there\n"):
        rewards.judge(f"imagereward:{folder}")
    save_file({name: each for name, each in weights().items() if "visual" not in name}, folder / FILE)
    with pytest.raises(UserError, match="patch_embedding"):
        rewards.judge(f"imagereward:{folder}")
    save_file(weights() | {"blip.visual_encoder.norm.bias": torch.zeros(3)}, folder / FILE)
    with pytest.raises(UserError, match=r"shape \[3\] instead of \[128\]"):
        rewards.judge(f"imagereward:{folder}")
    (folder / FILE).write_bytes(b"no tensors")
    with pytest.raises(UserError, match="cannot be read as safetensors"):
        rewards.judge(f"imagereward:{folder}")
