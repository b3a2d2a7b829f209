"""``rather compare-images`` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from command import Call
from rather.worlds.shapes.render import render, to_png
from rather.worlds.shapes.scene import Scene, random_scene
from tiny_images import png, tiny_clip


def scenes(folder: Path, number: int, seed: int, ground: str | None = None) -> Path:
    (folder / "below").mkdir(parents=True)
    random = np.random.default_rng(seed)
    for i in range(number):
        scene = random_scene(random)
        scene = scene if ground is None else Scene(ground, scene.things)
        (folder / ("below" if i % 2 else "") / f"{i}.png").write_bytes(to_png(render(scene)))
    (folder / "notes.txt").write_text("no image")
    return folder


def test_sets_of_shapes(rather: Call, tmp_path: Path) -> None:
    a, b = scenes(tmp_path / "a", 60, 0), scenes(tmp_path / "b", 60, 1)
    c = scenes(tmp_path / "c", 60, 1, ground="white")

    def distance(one: Path, other: Path) -> float:
        code, out, told = rather("compare-images", one, other, "--features", "shapes", "--json")
        assert code == 0, told
        found = json.loads(out)
        assert found["images"] == [60, 60] and found["width"] == 24 and found["cmmd"] is None
        return float(found["frechet"])

    assert distance(a, a) == pytest.approx(0, abs=1e-9)
    assert 0 < distance(a, b) < distance(a, c)


def test_clip_features(rather: Call, tmp_path: Path) -> None:
    model = tiny_clip(tmp_path / "clip")
    for side in range(2):
        (tmp_path / str(side)).mkdir()
        for i in range(3):
            (tmp_path / str(side) / f"{i}.png").write_bytes(png(10 * side + i))
    code, out, told = rather("compare-images", tmp_path / "0", tmp_path / "1", "--features", f"clip:{model}")
    assert code == 0, told
    assert "Fréchet distance" in out and "CMMD" in out and "3 and 3 images, 12 features each" in out
    assert "No more images than features" in out


@pytest.mark.parametrize(
    ("first", "by", "words"),
    [
        ("a", "clip:nowhere/at/all", "no such folder"),
        ("a", "inception", "there are no features 'inception'"),
        ("a", "clip", "write clip:MODEL"),
        ("missing", "shapes", "is no folder"),
        ("empty", "shapes", "holds no images"),
        ("single", "shapes", "holds one image"),
        ("large", "shapes", r"[36, 40, 3]"),
        ("broken", "shapes", "cannot be read"),
    ],
)
def test_mistakes(rather: Call, tmp_path: Path, first: str, by: str, words: str) -> None:
    scenes(tmp_path / "a", 2, 0)
    for name, images in (
        ("empty", []),
        ("single", [png(0)]),
        ("large", [png(0), png(1)]),
        ("broken", [b"\x89PNG", b"\x89PNG"]),
    ):
        (tmp_path / name).mkdir()
        for i, image in enumerate(images):
            (tmp_path / name / f"{i}.png").write_bytes(image)
    code, _, told = rather("compare-images", tmp_path / first, tmp_path / "a", "--features", by)
    assert code == 2 and words in told and "Traceback" not in told
