"""Diffusion-DPO on an image pipeline, side by side with a plain loop.

    python -m benchmarks.images

The plain loop runs VAE, text encoder and reference in every step; ``rather`` runs the first two once for each image
and caption. All train the same adapters of a Stable Diffusion with random weights on the same pairs.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import command, image_models
from benchmarks.environment import precision
from benchmarks.execute import Runner
from benchmarks.image_agreement import agreement
from benchmarks.run_images import ALL, ImageJob
from rather.errors import UserError

WARMUP = 1
TOLERANCE = 1e-4  # of the two losses in float32
START = {"fp32": 1e-4, "bf16": 0.1}  # of log 2 in the first step; beta times a half ulp of an error is not nothing


def options() -> argparse.ArgumentParser:
    found = command.parser("images", __doc__)
    found.formatter_class = argparse.RawDescriptionHelpFormatter
    found.add_argument("--size", choices=image_models.SIZES, default="quarter", help="share of Stable Diffusion 1.5")
    found.add_argument("--side", type=int, default=256, help="of the images, pixels")
    found.add_argument("--batch-size", type=int, default=2, help="pairs of a step")
    found.add_argument("--repeats", type=int, default=3)
    found.add_argument("--steps", type=int, default=3)
    return found


def measure(asked: argparse.Namespace, runner: Runner, scratch: Path) -> dict[str, Any]:
    """Run the contenders in turns; see the module."""
    if asked.side % 32 or asked.side < 32:
        raise UserError("the side of an image is no multiple of 32", where=f"--side {asked.side}", fix="try 256")
    folder = image_models.pipeline(scratch / "pipeline", asked.size, asked.side, asked.seed)
    number = asked.batch_size * (WARMUP + asked.steps)
    job = ImageJob(
        contender="rather",
        pipeline=folder,
        data=image_models.pairs(scratch / "pairs", number, asked.side, asked.seed),
        cache=str(scratch / "cache"),
        side=asked.side,
        batch=asked.batch_size,
        steps=asked.steps,
        warmup=WARMUP,
        precision=precision(asked.precision),
        seed=asked.seed,
    )
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in ALL}
    for repeat in range(asked.repeats):
        for contender, results in found.items():
            cache = str(scratch / f"cache-{repeat}")  # empty for the filling, full for the run after it
            results.append(runner(replace(job, contender=contender, cache=cache)))  # type: ignore[arg-type]
    same = agreement(job)
    starts = [each["steps"][0]["loss"] for name, results in found.items() if name != "filling" for each in results]
    off = max(abs(start - math.log(2)) for start in starts)
    failed = []
    if same["difference"] > TOLERANCE:
        failed.append(f"the losses differ by {same['difference']:.2g} in float32")
    if off > START[job.precision]:
        failed.append(f"a first loss is {off:.2g} off log 2")
    return {
        "size": asked.size,
        "side": asked.side,
        "batch": asked.batch_size,
        "warmup": WARMUP,
        "precision": job.precision,
        "beta": job.beta,
        "learning_rate": job.learning_rate,
        "agreement": same,
        "start_off": off,
        "gflops": {"here": image_models.forward_gflops(folder, asked.side), "sd15": image_models.published_gflops()},
        "results": found,
        "failed": "; ".join(failed),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    return command.main(
        "images", options(), measure, arguments, file=lambda asked: f"images-{asked.size}-{asked.side}"
    )


if __name__ == "__main__":
    sys.exit(main())
