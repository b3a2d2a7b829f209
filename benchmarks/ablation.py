"""What each part of the fast path is worth: a ladder of settings, and the last rung without one of them.

    python -m benchmarks.ablation --pairs pairs.jsonl

All rungs are ``rather`` on the same pairs; the first is what a plain implementation does.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from benchmarks import command, tokens
from benchmarks.environment import precision
from benchmarks.execute import Runner
from benchmarks.job import PACKED, Job
from benchmarks.models import folder_of
from rather.errors import UserError, nearest

WARMUP = 1


@dataclass(frozen=True)
class Rung:
    """Settings of a rung.

    Attributes:
        form: ``None`` is the library's own choice.
        fast: matrix products in the machine's fast type rather than in float32.
        lora: adapters rather than all weights; ``fused``: see ``Job``.
    """

    name: str
    title: str
    form: str | None = None
    allocator: bool = True
    fast: bool = True
    lora: bool = False
    fused: bool = True
    settings: dict[str, Any] = field(default_factory=dict)


IN_STEP = {"reference": "frozen"}

LADDER = (
    Rung("plain", "padded, whole logits, float32, reference in every step", "full", False, False, settings=IN_STEP),
    Rung("cache", "+ reference scores cached", "full", False, False),
    Rung("head", "+ head on response positions, in chunks", "padded", False, False),
    Rung("packing", "+ packing instead of padding", PACKED, False, False),
    Rung("sharing", "+ prompt computed once", None, False, False),
    Rung("allocator", "+ freed memory kept", None, True, False),
    Rung("fast", "+ bfloat16: everything"),
)
WITHOUT = (
    Rung("no-cache", "reference in every step", settings=IN_STEP),
    Rung("no-sharing", "no shared prompt", PACKED),
    Rung("no-packing", "padding (--encoding padded)", "padded"),
    Rung("no-allocator", "allocator as it is", allocator=False),
    Rung("checkpointing", "with --gradient-checkpointing", settings={"gradient_checkpointing": True}),
    Rung("small-passes", "with --max-tokens 512", settings={"max_tokens": 512}),
    Rung("lora", "with --lora", lora=True),
    Rung("lora-peft", "with --lora, layers as peft has them", lora=True, fused=False),
)
RUNGS = {rung.name: rung for rung in (*LADDER, *WITHOUT)}


def options() -> argparse.ArgumentParser:
    found = command.parser("ablation", __doc__)
    found.formatter_class = argparse.RawDescriptionHelpFormatter
    found.add_argument("--model", default="smollm2-135m", help="anything rather opens, or random:SIZE")
    found.add_argument("--tokenizer", default="smollm2-135m", help="whose tokenizer a random model gets")
    found.add_argument("--pairs", default="world:instructions", help="a file, a data set or a world")
    found.add_argument("--max-length", type=int, default=512)
    found.add_argument("--batch-size", type=int, default=8)
    found.add_argument("--repeats", type=int, default=2)
    found.add_argument("--steps", type=int, default=2)
    found.add_argument("--rungs", nargs="+", default=list(RUNGS), metavar="RUNG")
    return found


def measure(asked: argparse.Namespace, runner: Runner, scratch: Path) -> dict[str, Any]:
    """Run the rungs in turns; see the module."""
    from rather.policies.models import load_tokenizer

    for name in asked.rungs:
        if name not in RUNGS:
            raise UserError(f"there is no rung {name!r}", where="--rungs", fix=nearest(name, RUNGS))
    dtype: Literal["bf16", "fp32"] = precision(asked.precision)
    folder = folder_of(asked.model, scratch, tokenizer=asked.tokenizer)
    number = asked.batch_size * (WARMUP + asked.steps)
    rows = tokens.real(
        asked.pairs, load_tokenizer(folder), number=number, max_length=asked.max_length, seed=asked.seed
    )
    path = tokens.save(scratch / "tokens.json", rows)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in asked.rungs}
    for _ in range(asked.repeats):
        for name in asked.rungs:
            rung = RUNGS[name]
            print(f"{name}: {rung.title}", flush=True)
            job = Job(
                contender="rather",
                model=folder,
                tokens=str(path),
                batch=asked.batch_size,
                steps=asked.steps,
                warmup=WARMUP,
                precision=dtype if rung.fast else "fp32",
                lora=rung.lora,
                allocator=rung.allocator,
                fused=rung.fused,
                form=rung.form,
                settings=rung.settings,
                seed=asked.seed,
            )
            found[name].append(runner(job))
    return {
        "model": command.shown(asked.model),
        "pairs": command.shown(asked.pairs),
        "batch": asked.batch_size,
        "max_length": asked.max_length,
        "precision": dtype,
        "warmup": WARMUP,
        "data": tokens.summary(rows),
        "titles": {name: RUNGS[name].title for name in asked.rungs},
        "ladder": [rung.name for rung in LADDER if rung.name in asked.rungs],
        "results": found,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    return command.main("ablation", options(), measure, arguments)


if __name__ == "__main__":
    sys.exit(main())
