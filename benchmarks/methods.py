"""Every method takes a language model a few steps, on data of its own form: does its loss fall, what does a step cost?

    python -m benchmarks.methods --steps 20

A handful of comparisons is seen again and again, so that the loss of the last passes can be held against the first:
this shows that a method trains, not that it generalises.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks import command
from benchmarks.execute import Runner

PAIRS = "world:instructions"
OPTIONS: dict[str, dict[str, Any]] = {"mppo": {"reduce": "mean"}}
"""Where the default cannot show that it trains: the probability of a whole answer of a small model is 0 in float32."""

_AMONG_OTHERS = 2  # comparisons in a step of methods whose loss compares the comparisons of a batch


def options() -> argparse.ArgumentParser:
    found = command.parser("methods", __doc__)
    found.formatter_class = argparse.RawDescriptionHelpFormatter
    found.add_argument("--model", default="smollm2-135m", help="a causal language model")
    found.add_argument("--methods", nargs="+", help="only these")
    found.add_argument("--steps", type=int, default=20)
    found.add_argument("--comparisons", type=int, default=4, help="how many are seen, again and again")
    found.add_argument("--learning-rate", type=float, default=1e-4)
    found.add_argument("--full", action="store_true", help="all weights instead of adapters")
    return found


def measure(asked: argparse.Namespace, runner: Runner, scratch: Path) -> dict[str, Any]:
    """Train with one method after the other, in this process; see the module."""
    from rather.methods.registry import get, methods

    names = (
        [get(name).name for name in asked.methods] if asked.methods else [name for name in methods() if taken(name)]
    )
    found: dict[str, Any] = {}
    for name in names:
        found[name] = _train(name, asked, scratch)
        row = found[name]
        print(f"{name:20} {row['first']:12.4g} -> {row['last']:12.4g}  {row['cpu']:6.2f} CPU s a step", flush=True)
    risen = [name for name, row in found.items() if not row["last"] < row["first"]]
    said = {"failed": f"the loss did not fall: {', '.join(risen)}"} if risen else {}
    return {"model": asked.model, "steps": asked.steps, "lora": not asked.full, "methods": found, **said}


def taken(name: str) -> bool:
    """Whether a language model can take the method: nothing in it is about noise."""
    from rather.methods.registry import get

    method = get(name)
    return not method.needs & {"noise", "rollouts"} and method.objective().noising is None


def _train(name: str, asked: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    from rather.methods.registry import get
    from rather.training.run import train

    method = get(name)
    couples = method.objective().couples_batch
    batch = _AMONG_OTHERS if couples else 1
    form, data = _data(method.needs, name, scratch)
    start = time.monotonic()
    run = train(
        _model(method.needs, asked.model),
        data,
        method=name,
        max_steps=asked.steps,
        batch_size=batch,
        limit=asked.comparisons * batch,
        learning_rate=asked.learning_rate,
        lora=not asked.full,
        lr_schedule="constant",
        precision=asked.precision,
        eval_fraction=0.0,
        save_steps=0,
        samples=False,
        seed=asked.seed,
        output=str(scratch / name),
        quiet=True,
        **OPTIONS.get(name, {}),
    )
    lines = (run.output / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if row["split"] == "train"]
    losses = [row["loss"] for row in rows]
    once = min(asked.comparisons, len(rows) // 2)
    return {
        "form": form,
        "options": OPTIONS.get(name, {}),
        "batch": batch,
        "losses": losses,
        "first": fmean(losses[:once]),
        "last": fmean(losses[-once:]),
        "cpu": fmean(row["seconds_cpu"] for row in rows[1:] or rows),
        "tokens": fmean(row["tokens"] for row in rows),
        "seconds": time.monotonic() - start,
    }


def _model(needs: frozenset[str], model: str) -> str:
    if "embedding" in needs:
        return f"reward:{model}?head=gpm&dim=4"
    return f"reward:{model}" if "reward" in needs else model


def _data(needs: frozenset[str], name: str, scratch: Path) -> tuple[str, str]:
    """What the data is, and where."""
    if "auxiliary" in needs:
        return "pairs with a rationale", f"{PAIRS}?rationale=1"
    if name == "tab_po":
        return "annotated pairs", "world:annotations?pairs=32"
    if "scores" in needs:
        return "scored groups of 4", str(_written(scratch / "scored.jsonl", scored=True))
    if "lists" in needs:
        return "one against 3", str(_written(scratch / "lists.jsonl", scored=False))
    return "demonstrations" if "targets" in needs else "pairs", PAIRS


def _written(path: Path, *, scored: bool) -> Path:
    """Groups of four answers: a pair's own, and the rejected ones of the two pairs after it."""
    from rather.worlds.instructions.load import load_pairs

    rows = load_pairs("train")
    with path.open("w", encoding="utf-8") as file:
        for number, row in enumerate(rows[:-2]):
            others = [rows[number + 1]["rejected"], rows[number + 2]["rejected"]]
            if scored:
                answers, scores = [row["chosen"], row["rejected"], *others], [1.0, 0.3, 0.0, -0.3]
                entry = {"prompt": row["prompt"], "responses": answers, "scores": scores}
            else:
                entry = {"prompt": row["prompt"], "chosen": row["chosen"], "rejected": [row["rejected"], *others]}
            file.write(json.dumps(entry) + "\n")
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    return command.main("methods", options(), measure, arguments)


if __name__ == "__main__":
    sys.exit(main())
