"""Short runs of the catalogue policy, and what is compared between them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from rather.training.run import RunResult, train
from training.catalogue import CataloguePolicy, comparisons

CLOCK = "seconds"


def short(output: Path, *, policy: Any = None, data: Any = None, **options: Any) -> RunResult:
    settings: dict[str, Any] = {
        "learning_rate": 0.02,
        "batch_size": 8,
        "epochs": 2,
        "eval_fraction": 0.3,
        "output": str(output),
        "quiet": True,
        **options,
    }
    model = settings.pop("model", None) or (policy if policy is not None else CataloguePolicy())
    return train(model, data if data is not None else comparisons(), **settings)


def metrics(output: Path, split: str = "train") -> list[dict[str, Any]]:
    """Rows without their clock times."""
    rows = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if not k.startswith(CLOCK)} for row in rows if row["split"] == split]


def weights(output: Path) -> dict[str, Tensor]:
    return load_file(output / "model" / "model.safetensors")


def record(output: Path) -> dict[str, Any]:
    return json.loads((output / "run.json").read_text())
