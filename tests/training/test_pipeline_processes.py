"""Two processes give what one gives on an image pipeline: adapters and whole, images of several shapes, a model that inverts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from tiny_images import SIDE, png, tiny_pipeline
from training.runs import metrics, record
from training.test_processes import launch, two

SIZES = ((40, 36), (100, 40), (30, 50))
# Its first steps are the rate times g / (|g| + epsilon): rounding of a gradient moves a weight by at most rate / epsilon
# times as much. With so large an epsilon the tolerance of weights allows for 1e-7, and most gradients here are still larger.
ADAMW = {"optimizer": "adamw", "learning_rate": 0.01, "adam_epsilon": 1e-4, "epochs": 1}
CAPTIONS = ("a red square", "two blue circles", "a cat", "the sea", "a green star")


def write_pairs(folder: Path, number: int) -> str:
    lines = []
    for i in range(number):
        for side in range(2):
            (folder / f"{i}-{side}.png").write_bytes(png(2 * i + side, SIZES[i % 3]))
        row = {"prompt": f"{CAPTIONS[i % 5]} {i}", "chosen": f"{i}-0.png", "rejected": f"{i}-1.png"}
        lines.append(json.dumps(row) + "\n")
    (folder / "pairs.jsonl").write_text("".join(lines))
    return str(folder / "pairs.jsonl")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("sd", {"lora": True, "method": "diffusion_dpo", "beta": 50.0}),
        ("sd3", {"lora": True, "method": "diffusion_dpo", "beta": 50.0}),
        ("sd", {"lora": False, "method": "diffusion_dpo", "beta": 50.0}),
        ("sd", {"lora": True, "method": "inpo", "beta": 50.0, "noising.steps": 3}),
        ("sd", {"lora": True, "method": "self_npo"}),
        ("sd", {"lora": True, "method": "diffusion_dpo", "beta": 50.0, **ADAMW}),
    ],
    ids=["unet", "transformer", "whole", "inverting", "roll-outs", "adamw"],
)
def test_two_processes_equal_one(tmp_path: Path, kind: str, options: dict[str, Any]) -> None:
    common = {
        "model": tiny_pipeline(tmp_path / kind, kind),
        "data": write_pairs(tmp_path, 15),
        "image_size": SIDE,
        "image_buckets": True,
        "caption_drop": 0.3,
        "precision": "fp32",
        "batch_size": 5,
        "epochs": 2,
        "max_tokens": 6,
        "learning_rate": 0.1 if options["lora"] else 0.01,
        "optimizer": "sgd",
        "logging_steps": 1,
        "save_steps": 0,
        "samples": False,
        **options,
    }
    launch(tmp_path / "one", tmp_path / "cache1", [], **common)
    launch(tmp_path / "two", tmp_path / "cache2", two(), **common)
    assert record(tmp_path / "two")["world_size"] == 2
    name = "pytorch_lora_weights.safetensors" if options["lora"] else "unet/diffusion_pytorch_model.safetensors"
    a, b = (load_file(tmp_path / folder / "model" / name) for folder in ("one", "two"))
    assert a.keys() == b.keys()
    for key in a:
        assert float((a[key] - b[key]).abs().max()) < 1e-5, key
    for split in ("train", "eval"):
        rows = [metrics(tmp_path / folder, split) for folder in ("one", "two")]
        assert len(rows[0]) > 1
        for left, right in zip(*rows, strict=True):
            for key in left.keys() - {"split"} - ({"rewards/accuracies"} if left["step"] <= 1 else set()):
                assert left[key] == pytest.approx(right[key], rel=1e-4, abs=1e-5), (left["step"], key)
    if options["lora"]:  # one factor of each adapter starts at zero
        assert max(float(value.abs().max()) for key, value in a.items() if "lora_B" in key or ".up." in key) > 1e-3
    else:
        base = load_file(tmp_path / kind / name)
        assert max(float((base[key] - a[key]).abs().max()) for key in a) > 1e-3
