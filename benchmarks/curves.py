"""Loss curves of ``rather`` and TRL's DPOTrainer from equal batches in equal order, in float32.

    python -m benchmarks.curves --pairs pairs.jsonl --steps 100

Both start from the same weights and take AdamW steps under the same linear schedule; dropout is off. What is left is
rounding. The command prints the largest difference and fails when it is above the tolerance.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import command, compare, tokens
from benchmarks.environment import precision
from benchmarks.execute import Runner
from benchmarks.job import Contender, Job
from benchmarks.models import folder_of
from benchmarks.peers import TOLERANCE

CONTENDERS: tuple[Contender, ...] = ("rather", "trl best")


def options() -> argparse.ArgumentParser:
    found = command.parser("curves", __doc__)
    found.formatter_class = argparse.RawDescriptionHelpFormatter
    found.set_defaults(precision="fp32")
    found.add_argument("--model", default="smollm2-135m", help="anything rather opens, or random:SIZE")
    found.add_argument("--tokenizer", default="smollm2-135m", help="whose tokenizer a random model gets")
    found.add_argument("--pairs", default="world:instructions", help="a file, a data set or a world")
    found.add_argument("--steps", type=int, default=100)
    found.add_argument("--max-length", type=int, default=256)
    found.add_argument("--batch-size", type=int, default=4)
    found.add_argument("--learning-rate", type=float, default=5e-6)
    return found


def measure(asked: argparse.Namespace, runner: Runner, scratch: Path) -> dict[str, Any]:
    """Train with both; see the module."""
    from rather.policies.models import load_tokenizer

    dtype = precision(asked.precision)
    folder = folder_of(asked.model, scratch, tokenizer=asked.tokenizer)
    number = asked.steps * asked.batch_size
    rows = tokens.real(
        asked.pairs, load_tokenizer(folder), number=number, max_length=asked.max_length, seed=asked.seed
    )
    path = tokens.save(scratch / "tokens.json", rows)
    found = {
        contender: runner(
            Job(
                contender=contender,
                model=folder,
                tokens=str(path),
                batch=asked.batch_size,
                steps=asked.steps,
                warmup=0,
                precision=dtype,
                learning_rate=asked.learning_rate,
                schedule="linear",
                seed=asked.seed,
            )
        )
        for contender in CONTENDERS
    }
    off = compare.loss_difference([found["rather"]], [found["trl best"]])
    print(f"largest difference of the two losses in {asked.steps} steps: {off:.2g}")
    tolerance = TOLERANCE[dtype]
    return {
        "model": command.shown(asked.model),
        "pairs": command.shown(asked.pairs),
        "batch": asked.batch_size,
        "max_length": asked.max_length,
        "learning_rate": asked.learning_rate,
        "precision": dtype,
        "difference": off,
        "tolerance": tolerance,
        "results": found,
        "failed": f"the losses differ by {off:.2g}, more than {tolerance}" if off > tolerance else None,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    return command.main("curves", options(), measure, arguments)


if __name__ == "__main__":
    sys.exit(main())
