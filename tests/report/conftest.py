"""Run folders as training writes them, with plausible numbers."""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

MakeRun = Callable[..., Path]

RUN = {
    "status": "finished",
    "command": "rather train --model smollm2-135m --data pairs.jsonl --method rdpo --labels.flip_rate 0.1 --output r",
    "method": {
        "name": "rdpo",
        "title": "Robust DPO",
        "equation": "((1 - eps) l(z) - eps l(-z)) / (1 - 2 eps),  l(z) = -log sigma(z)",
        "source": "arXiv 2403.00409 eq. 12",
        "options": {"beta": 0.1, "reduce": "sum", "labels": {"flip_rate": 0.1, "smoothing": 0.0}, "sft": 0.0},
    },
    "versions": {"rather": "0.1.0", "torch": "2.13.0", "transformers": "5.24.0", "python": "3.11.2"},
    "started": "2025-11-24T15:40:00+00:00",
    "finished": "2025-11-24T16:02:10+00:00",
    "model": {"name": "smollm2-135m", "class": "LlamaForCausalLM", "template": "chat"},
    "data": {
        "train": {
            "path": "pairs.jsonl",
            "format": "prompt, chosen, rejected (conversational)",
            "examples": 1894,
            "refused": {"chosen equals rejected": 12, "empty response": 3},
            "truncated": {"prompt_start": 21},
            "length_bias": {"chosen_longer": 0.58, "mean_chosen": 61.2, "mean_rejected": 54.9},
            "fingerprint": "9f3c21aa04d1",
        },
        "eval": {"path": "pairs.jsonl", "examples": 200, "refused": {}},
    },
    "parameters": {"trained": 4_884_480, "total": 139_400_000},
    "world_size": 1,
    "device": "cpu",
    "peak_memory_mb": 2310.4,
    "seconds": 1330.2,
}

EVALUATION = {
    "before": {
        "n": 200,
        "accuracy": 0.5,
        "accuracy/interval": [0.5, 0.5],
        "accuracy/logps": 0.545,
        "accuracy/logps/interval": [0.476, 0.613],
        "loss": 0.6931,
        "margins": 0.0,
        "logps/chosen": -141.2,
        "logps/rejected": -139.0,
        "kl": 0.0,
        "length": 48.2,
    },
    "after": {
        "n": 200,
        "accuracy": 0.735,
        "accuracy/interval": [0.67, 0.792],
        "accuracy/logps": 0.61,
        "accuracy/logps/interval": [0.541, 0.675],
        "loss": 0.5814,
        "margins": 0.712,
        "logps/chosen": -149.9,
        "logps/rejected": -156.3,
        "kl": 5.31,
        "length": 55.0,
    },
    "world": {
        "before": {"pass_rate": 0.18, "pass_rate/interval": [0.134, 0.24], "n": 200},
        "after": {"pass_rate": 0.41, "pass_rate/interval": [0.344, 0.479], "n": 200},
    },
}

SAMPLES = [
    {
        "prompt": [{"role": "user", "content": "Answer in exactly two sentences: why is the sky blue?"}],
        "before": "The sky is blue because the sky is blue. The sky is a blue colour. It is "
        + "very " * 160
        + "blue.",
        "after": "Air scatters short waves of light more than long ones. So the light from all around looks blue.",
        "checks": {"before": {"two sentences": False}, "after": {"two sentences": True}},
    },
    {"prompt": "Say hello.\nIn French.", "before": "Hello!", "after": "Bonjour !", "checks": None},
    {
        "prompt": "Ünïcode 你好 🙂",
        "before": "",
        "after": "a" * 400,
        "checks": {"before": {"score": 0.25}, "after": {"score": 1.0}},
    },
]


def metrics(steps: int = 300, seed: int = 0) -> list[dict[str, Any]]:
    """Rows of a run whose chosen answers become less likely while the margin grows."""
    rng = np.random.default_rng(seed)
    rows = []
    for step in range(1, steps + 1):
        done = 1 - math.exp(-3 * step / max(steps, 1))
        margin = 0.9 * done + rng.normal(0, 0.12)
        chosen = -140 - 9 * done + rng.normal(0, 4)
        rows.append(
            {
                "step": step,
                "split": "train",
                "epoch": 2 * step / steps,
                "lr": 5e-6 * min(1.0, step / 20) * (1 - 0.9 * step / steps),
                "loss": math.log1p(math.exp(-margin)) + rng.normal(0, 0.02),
                "rewards/chosen": -0.9 * done + rng.normal(0, 0.1),
                "rewards/rejected": -0.9 * done - margin,
                "rewards/margins": margin,
                "rewards/accuracies": min(1.0, max(0.0, 0.5 + 0.3 * done + rng.normal(0, 0.08))),
                "logps/chosen": chosen,
                "logps/rejected": chosen - 10 * margin,
                "grad_norm": float(np.exp(rng.normal(0.5, 0.4))) * (90 if step == steps // 2 else 1),
                "kl": 5 * done + rng.normal(0, 0.3),
                "length/chosen": 60 + rng.normal(0, 3),
                "length/rejected": 55 + rng.normal(0, 3),
                "tokens": int(rng.integers(3500, 4200)),
                "seconds": float(rng.normal(4.2, 0.2)),
                "seconds/forward": 1.6,
                "seconds/backward": 2.1,
                "flip/estimate": 0.1 + 0.02 * done,
            }
        )
        if step % max(1, steps // 6) == 0:
            held = {"step": step, "split": "eval", "loss": 0.69 - 0.11 * done, "rewards/margins": 0.7 * done}
            held |= {"rewards/accuracies": 0.5 + 0.23 * done, "logps/chosen": -141 - 8 * done}
            held |= {
                "logps/rejected": -139 - 17 * done,
                "rewards/chosen": -0.8 * done,
                "rewards/rejected": -1.5 * done,
            }
            rows.append(held)
    return rows


def png(width: int, height: int, colour: tuple[int, int, int]) -> bytes:
    """A picture of one colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = (b"\0" + bytes(colour) * width) * height
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Build a run folder; any part may be replaced, and ``None`` leaves its file out."""

    def build(name: str = "run", **parts: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        contents = {"run": RUN, "metrics": metrics(), "evaluation": EVALUATION, "samples": SAMPLES} | parts
        for part in ("run", "evaluation"):
            if contents[part] is not None:
                (folder / f"{part}.json").write_text(json.dumps(contents[part]), encoding="utf-8")
        for part in ("metrics", "samples"):
            if contents[part] is not None:
                lines = [json.dumps(row) for row in contents[part]]
                (folder / f"{part}.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        config = "method:\n  name: rdpo\n  labels.flip_rate: 0.1\npolicy:\n  model: smollm2-135m\n"
        (folder / "config.yaml").write_text(parts.get("config", config), encoding="utf-8")
        return folder

    return build


@pytest.fixture
def picture() -> bytes:
    """A small red PNG."""
    return png(24, 16, (200, 30, 30))
