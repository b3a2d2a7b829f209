"""How time and memory grow with the number of pairs, the prompt, the number of negatives and the vocabulary.

    python -m benchmarks.growth

A small random Llama, in float32, in ``rather``'s own form and in the plain one (padded, whole logits). Slopes are
exponents of what is above the smallest possible step: 1 is linear growth, 0 none.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import command, compare, tokens
from benchmarks.environment import precision
from benchmarks.execute import Runner
from benchmarks.job import Job
from benchmarks.models import SIZES, save_random
from rather.errors import UserError, nearest

WARMUP = 1
FITTED = 3
"""Largest points that a slope is fitted to: the small ones are mostly fixed cost."""

FORMS: dict[str, str | None] = {"rather": None, "plain": "full"}
WHOLE_STEP = 1 << 30
"""A budget of tokens that no step exceeds: one forward pass, so that growth is not hidden by cutting it."""


@dataclass(frozen=True)
class Shape:
    """A step: comparisons of one size, in passes of at most ``max_tokens``."""

    pairs: int = 4
    prompt: int = 128
    answer: int = 32
    negatives: int = 1
    vocabulary: int = 8192
    max_tokens: int = WHOLE_STEP


@dataclass(frozen=True)
class Axis:
    """One number of a shape that grows."""

    name: str
    title: str
    base: Shape
    sizes: tuple[int, ...]

    def shape(self, size: int) -> Shape:
        return replace(self.base, **{self.name: size})


AXES = {
    axis.name: axis
    for axis in (
        Axis("pairs", "pairs in a step (passes of 2,048 tokens)", Shape(max_tokens=2048), (8, 16, 32, 64, 128)),
        Axis("prompt", "tokens of the prompt", Shape(), (128, 256, 512, 1024, 2048)),
        Axis("negatives", "negatives of a comparison", Shape(prompt=256, answer=12), (1, 3, 7, 15, 31)),
        Axis("vocabulary", "size of the vocabulary", Shape(answer=64), (2048, 8192, 32768, 131072)),
    )
}

FLOOR = Shape(pairs=1, prompt=8, answer=4, vocabulary=2048)
"""The smallest step: what it takes is start-up (threads, code that is loaded on first use), not growth."""


def options() -> argparse.ArgumentParser:
    found = command.parser("growth", __doc__)
    found.formatter_class = argparse.RawDescriptionHelpFormatter
    found.set_defaults(precision="fp32")
    found.add_argument(
        "--tokenizer", default="smollm2-135m", help="a model whose tokenizer the random ones are saved with; not used"
    )
    found.add_argument("--axes", nargs="+", default=list(AXES), metavar="AXIS")
    found.add_argument("--points", type=int, default=5, help="only the first so many sizes of each axis")
    found.add_argument("--steps", type=int, default=3)
    return found


def measure(asked: argparse.Namespace, runner: Runner, scratch: Path) -> dict[str, Any]:
    """Run every point of every axis in both forms; see the module."""
    for name in asked.axes:
        if name not in AXES:
            raise UserError(f"there is no axis {name!r}", where="--axes", fix=nearest(name, AXES))
    print("floor: one pair of a few tokens", flush=True)
    floor = {form: _point(FLOOR, form, asked, runner, scratch) for form in FORMS}
    axes = {}
    for name in asked.axes:
        axis = AXES[name]
        sizes = axis.sizes[: asked.points]
        print(f"{name}: {axis.title}", flush=True)
        forms: dict[str, list[dict[str, float]]] = {form: [] for form in FORMS}
        for size in sizes:
            for form in FORMS:
                forms[form].append(_point(axis.shape(size), form, asked, runner, scratch))
        axes[name] = {
            "title": axis.title,
            "sizes": list(sizes),
            "forms": forms,
            "slopes": {form: _slopes(sizes, points, floor[form]) for form, points in forms.items()},
        }
        for form, slopes in axes[name]["slopes"].items():
            print(f"  {form}: time grows as {name}^{slopes['cpu']:.2f}, memory as {name}^{slopes['memory']:.2f}")
    return {
        "axes": axes,
        "floor": floor,
        "precision": precision(asked.precision),
        "model": SIZES["tiny"],
        "fitted": FITTED,
    }


def _slopes(sizes: Sequence[int], points: Sequence[dict[str, float]], floor: dict[str, float]) -> dict[str, float]:
    last = slice(-FITTED, None)
    return {
        name: compare.slope(sizes[last], [max(0.0, point[name] - floor[name]) for point in points][last])
        for name in ("wall", "cpu", "memory")
    }


def _point(shape: Shape, form: str, asked: argparse.Namespace, runner: Runner, scratch: Path) -> dict[str, float]:
    folder = scratch / f"vocabulary-{shape.vocabulary}"
    if not folder.is_dir():
        save_random(folder, SIZES["tiny"], tokenizer=asked.tokenizer, vocabulary=shape.vocabulary)
    rows = tokens.synthetic(
        np.arange(shape.vocabulary),
        number=shape.pairs * (WARMUP + asked.steps),
        prompt=shape.prompt,
        answer=shape.answer,
        negatives=shape.negatives,
        seed=asked.seed,
    )
    job = Job(
        contender="rather",
        model=str(folder),
        tokens=str(tokens.save(scratch / "tokens.json", rows)),
        batch=shape.pairs,
        steps=asked.steps,
        warmup=WARMUP,
        precision=precision(asked.precision),
        form=FORMS[form],
        settings={"max_tokens": shape.max_tokens},
        seed=asked.seed,
    )
    found = runner(job)
    wall, cpu = (float(np.median([step[name] for step in found["steps"][WARMUP:]])) for name in ("wall", "cpu"))
    return {"wall": wall, "cpu": cpu, "memory": found["memory"]["above"]}


def main(arguments: Sequence[str] | None = None) -> int:
    return command.main("growth", options(), measure, arguments)


if __name__ == "__main__":
    sys.exit(main())
