"""Judges of images: the program of the world of shapes, and scores by CLIP embeddings against their formulas."""

from __future__ import annotations

import io
import itertools
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from rather import rewards
from rather.errors import UserError
from rather.policies import clip as clips
from rather.rewards.heads import LinearHead
from rather.worlds.shapes.pairs import ShapesOptions, load_pairs
from rather.worlds.shapes.render import render, to_png
from rather.worlds.shapes.scene import Scene, Thing
from tiny import tiny_model
from tiny_images import png, tiny_clip

CAPTION = "a red cat"


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_clip(tmp_path_factory.mktemp("clip") / "model")


IMAGES = [png(seed) for seed in range(5)]


def reference(folder: str, caption: str, images: list[bytes]) -> np.ndarray:
    """Cosines as transformers' own forward pass of the whole model gives them, one image at a time."""
    from transformers import CLIPModel, CLIPProcessor

    processor: Any = CLIPProcessor.from_pretrained(folder)
    model: Any = CLIPModel.from_pretrained(folder).eval()
    found = []
    for image in images:
        opened = Image.open(io.BytesIO(image))
        with torch.no_grad():
            given = processor(text=[caption], images=[opened], return_tensors="pt", padding=True)
            found.append(float(model(**given).logits_per_image) / float(model.logit_scale.detach().exp()))
    return np.array(found)


# A program


def test_the_checker_agrees_with_the_pairs_of_its_world() -> None:
    judge = rewards.judge("checker:shapes")
    for pair in load_pairs(ShapesOptions(pairs=36, size="64")):  # type: ignore[call-arg]
        assert judge.score(pair.prompt, pair.responses).tolist() == [1, 0]


def test_grades_say_how_far_an_image_obeys() -> None:
    """Everything is right in the winner: all single things, and what the task is about. A loser has less."""
    judge = rewards.judge("checker:shapes-grades")
    assert judge.name == "checker:shapes-grades"
    for pair in load_pairs(ShapesOptions(pairs=36, size="64")):  # type: ignore[call-arg]
        better, worse = judge.score(pair.prompt, pair.responses).tolist()
        assert better == 2 and 0 < worse < 2
    empty = to_png(render(Scene("white", ())))
    assert judge.score("two red circles", [empty]).tolist() == [0]


def test_the_checker_reads_files_too(tmp_path: Path) -> None:
    scene = Scene("white", (Thing("red", "circle", "solid", "large", 0.25, 0.25),))
    (tmp_path / "one.png").write_bytes(to_png(render(scene)))
    judge = rewards.judge("checker:shapes")
    path = tmp_path / "one.png"
    assert judge.score("a red circle in the top left corner on a white background", [path]).tolist() == [1]
    assert judge.score("two red circles", [str(path)]).tolist() == [0]
    assert judge.compare("a red circle", path, to_png(render(Scene("white", ())))) == 1


@pytest.mark.parametrize(
    ("prompt", "response", "words"),
    [
        ("a cat", "png", "no caption of the world of shapes: 'a cat'"),
        (({"role": "user", "content": "a red circle"},), "png", "a caption is text, not a tuple"),
        ("a red circle", "other size", r"not \[36, 40, 3\]"),
        ("a red circle", b"no image", "cannot be read"),
        ("a red circle", "missing.png", "there is no image missing.png"),
        ("a red circle", 3, "not an image's bytes or path"),
    ],
)
def test_what_the_checker_cannot_judge(prompt: Any, response: Any, words: str) -> None:
    known = {"png": to_png(render(Scene("white", ()))), "other size": png(0)}
    with pytest.raises(UserError, match=words):
        rewards.judge("checker:shapes").score(prompt, [known.get(response, response)])


# CLIP


def test_clip_is_a_hundred_times_the_cosine(folder: str) -> None:
    judge = rewards.judge(f"clip:{folder}")
    found = judge.score(CAPTION, IMAGES)
    cosines = reference(folder, CAPTION, IMAGES)
    assert (cosines > 0).any() and (cosines < 0).any()
    np.testing.assert_allclose(found, 100 * np.maximum(cosines, 0), atol=1e-4)
    best, worst = int(cosines.argmax()), int(cosines.argmin())
    assert judge.compare(CAPTION, IMAGES[best], IMAGES[worst]) == 1


@pytest.mark.parametrize("kind", ["pickscore", "hps"])
def test_fitted_clips_are_the_models_logits(folder: str, kind: str) -> None:
    judge = rewards.judge(f"{kind}:{folder}")
    expected = 10 * reference(folder, CAPTION, IMAGES)
    np.testing.assert_allclose(judge.score(CAPTION, IMAGES), expected, atol=1e-4)
    softmax = math.exp(expected[0]) / (math.exp(expected[0]) + math.exp(expected[1]))
    assert judge.compare(CAPTION, IMAGES[0], IMAGES[1]) == pytest.approx(softmax, abs=1e-5)


def test_batches_change_nothing(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = rewards.judge(f"clip:{folder}").score(CAPTION, IMAGES)
    monkeypatch.setattr(clips, "_BATCH", 2)
    np.testing.assert_allclose(rewards.judge(f"clip:{folder}").score(CAPTION, IMAGES), whole, atol=1e-5)


def test_captions_beyond_the_models_length_are_cut(folder: str) -> None:
    judge = rewards.judge(f"clip:{folder}")
    one, other = (judge.score("a" * length, IMAGES) for length in (50, 500))
    np.testing.assert_array_equal(one, other)


def test_transparency_is_white(folder: str) -> None:
    judge = rewards.judge(f"pickscore:{folder}")
    clear, white = (Image.new(mode, (32, 32), colour) for mode, colour in (("RGBA", (9, 9, 9, 0)), ("RGB", "white")))
    images = []
    for image in (clear, white):
        buffer = io.BytesIO()
        image.save(buffer, format="PNG")
        images.append(buffer.getvalue())
    one, other = judge.score(CAPTION, images)
    assert one == other


def test_a_processor_of_its_own(folder: str, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "bare")
    for name in ("tokenizer.json", "tokenizer_config.json", "processor_config.json"):
        (tmp_path / "bare" / name).unlink()
    with pytest.raises(UserError, match="preparation of texts and images"):
        rewards.judge(f"clip:{tmp_path / 'bare'}")
    found = rewards.judge(f"clip:{tmp_path / 'bare'}?processor={folder}").score(CAPTION, IMAGES)
    np.testing.assert_array_equal(found, rewards.judge(f"clip:{folder}").score(CAPTION, IMAGES))


# Aesthetics

WIDTHS = [12, 10, 8, 4, 3, 1]


def mlp(seed: int = 0, widths: list[int] = WIDTHS) -> dict[str, torch.Tensor]:
    """A head with the names of LAION's, whose numbers skip where dropout was."""
    made = torch.Generator().manual_seed(seed)
    found = {}
    for number, (wide, narrow) in zip((0, 2, 4, 6, 7), itertools.pairwise(widths), strict=False):
        found[f"layers.{number}.weight"] = torch.randn(narrow, wide, generator=made)
        found[f"layers.{number}.bias"] = torch.randn(narrow, generator=made)
    return found


def test_aesthetic_is_the_head_on_the_unit_embedding(folder: str, tmp_path: Path) -> None:
    weights = mlp()
    save_file(weights, tmp_path / "head.safetensors")
    judge = rewards.judge(f"aesthetic:{folder},{tmp_path / 'head.safetensors'}")
    embedded = torch.from_numpy(clips.Clip(folder).images([Image.open(io.BytesIO(image)) for image in IMAGES]))
    network = torch.nn.Sequential(
        *(
            torch.nn.Dropout()
            if number in (1, 3, 5)
            else torch.nn.Linear(*weights[f"layers.{number}.weight"].shape[::-1])
            for number in range(8)
        )
    )
    network.load_state_dict({name.removeprefix("layers."): value for name, value in weights.items()})
    with torch.no_grad():
        expected = network.double().eval()(torch.nn.functional.normalize(embedded, dim=-1))[:, 0]
    np.testing.assert_allclose(judge.score("whatever", IMAGES), expected.numpy(), atol=1e-9)
    np.testing.assert_array_equal(judge.score("whatever", IMAGES), judge.score("else", IMAGES))


def test_a_single_linear_head_beside_the_model(folder: str, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "model")
    save_file({"weight": torch.ones(1, 12), "bias": torch.tensor([2.0])}, tmp_path / "model" / "aesthetic.safetensors")
    found = rewards.judge(f"aesthetic:{tmp_path / 'model'}").score("", IMAGES)
    embedded = clips.Clip(folder).images([Image.open(io.BytesIO(image)) for image in IMAGES])
    np.testing.assert_allclose(found, clips.unit(embedded).sum(1) + 2)


def test_more_than_ten_layers_stand_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    weights = {f"layers.{number}.weight": torch.full((1, 1), float(number + 1)) for number in range(12)}
    weights["layers.10.bias"] = torch.ones(1)
    save_file(weights, tmp_path / "head.safetensors")
    head = LinearHead.read(tmp_path / "head.safetensors", 1)
    assert head(np.ones((1, 1))).tolist() == [math.factorial(12) + 12]


def test_heads_that_do_not_fit(folder: str, tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    for weights, words in (
        (mlp(widths=[8, 4, 1]), "layers.0.weight is 4 x 8, but gets 12 numbers"),
        (mlp(widths=[12, 4]), "do not end in one number"),
        ({"bias": torch.ones(1)}, "do not end in one number"),
    ):
        save_file(weights, path)
        with pytest.raises(UserError, match=words):
            rewards.judge(f"aesthetic:{folder},{path}")
    path.write_bytes(b"no head")
    with pytest.raises(UserError, match="cannot be read as safetensors"):
        rewards.judge(f"aesthetic:{folder},{path}")
    with pytest.raises(UserError, match="there is no head"):
        rewards.judge(f"aesthetic:{folder}")


# Names


@pytest.mark.parametrize("kind", ["clip", "hps", "aesthetic"])
def test_a_model_is_needed(kind: str) -> None:
    with pytest.raises(UserError):
        rewards.judge(kind)


def test_what_is_no_clip_model_is_refused(folder: str, tmp_path: Path) -> None:
    other = tiny_model(tmp_path / "llama")
    with pytest.raises(UserError, match="of the type 'llama', not CLIP"):
        rewards.judge(f"clip:{other}")
    with pytest.raises(UserError, match="no such folder"):
        rewards.judge(f"clip:{tmp_path / 'nothing'}")
    with pytest.raises(UserError, match="there is no option 'processors'"):
        rewards.judge(f"clip:{folder}?processors=x")


def test_judges_say_what_they_judge(folder: str) -> None:
    assert rewards.judge(f"clip:{folder}").judges == rewards.judge("checker:shapes").judges == "images"
    assert rewards.judge("length").judges == rewards.judge("checker:instructions").judges == "text"
