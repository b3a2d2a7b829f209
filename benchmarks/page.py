"""``docs/benchmarks.md`` from the numbers that are there: ``python -m benchmarks.page [OUT]``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks import page_images, page_peers, plots
from rather.report.numbers import shown
from rather.studies.report import table
from rather.training.record import read_json, write_text

HEAD = """# Benchmarks

This page is written by the commands below from the numbers beside it (`benchmarks/*.json`, every raw value); nothing
on it is typed by hand. Every contender trains the same model on the same token ids in the same batches, in a process
of its own, in turns with the others. Seconds of one machine mean little elsewhere; ratios mean more.
"""

TAIL = """## Run them

```
pip install -e '.[dev]'                             # brings TRL
python -m benchmarks.peers --pairs pairs.jsonl      # side by side with TRL
python -m benchmarks.curves --pairs pairs.jsonl     # both loss curves, float32
python -m benchmarks.ablation --pairs pairs.jsonl   # each part of the fast path alone
python -m benchmarks.growth                         # small random models, a few minutes
python -m benchmarks.methods                        # every method, 20 steps
python -m benchmarks.images                         # Diffusion-DPO on a random image pipeline, a few minutes
python -m benchmarks.images --size whole --batch-size 1  # the same in the size of Stable Diffusion 1.5, ten minutes
                                                    # and --side 512, half an hour
```

Without `--pairs` the embedded instruction pairs are used. With a GPU everything runs on it, and `--model random:1b` makes
a Llama of that size with random weights, so that nothing has to be downloaded but a tokenizer.
`--help` lists the rest; `--out` says where the page goes.
"""


def build(out: Path) -> Path:
    """Write the pictures and the page of every JSON file in ``out/benchmarks``; returns the page's path."""
    folder = out / "benchmarks"
    sections: dict[str, Callable[[Mapping[str, Any], Path], list[str]]] = {
        "peers": page_peers.section,
        "curves": _curves,
        "ablation": _ablation,
        "growth": _growth,
        "methods": _methods,
    }
    lines = [HEAD]
    for name, section in sections.items():
        found = read_json(folder / f"{name}.json")
        if found:
            lines += section(found, folder)
    lines += page_images.section([read_json(file) for file in folder.glob("images-*.json")])
    write_text(out / "benchmarks.md", "\n".join([*lines, TAIL]))
    return out / "benchmarks.md"


def _curves(found: Mapping[str, Any], folder: Path) -> list[str]:
    picture = plots.save(folder, "curves", (9, 3.2), plots.curves(found))
    steps = len(found["results"]["rather"]["steps"])
    return [
        "## Loss curves",
        "",
        f"{steps} steps of {found['batch']} pairs ({found['pairs']}, at most {found['max_length']} tokens) with "
        f"{found['model']} in {found['precision']}, AdamW, linear schedule from {shown(found['learning_rate'])}: the "
        f"largest difference of the two losses in any step is **{shown(found['difference'], 2)}** "
        f"(tolerance {shown(found['tolerance'])}).",
        "",
        picture,
        "",
        *page_peers.footer(found),
    ]


def _ablation(found: Mapping[str, Any], folder: Path) -> list[str]:
    off_ladder = [name for name in found["results"] if name not in found["ladder"]]
    rows = [(found["titles"][name], *_rung(found, name)) for name in (*found["ladder"], *off_ladder)]
    on_ladder = len(found["ladder"])
    drawn = [*rows[:on_ladder], *((f"everything, but {title}", *numbers) for title, *numbers in rows[on_ladder:])]
    picture = plots.save(folder, "ablation", (9, 0.9 + 0.28 * len(rows)), plots.ablation(drawn))
    body = [(title, f"{cpu:.2f}", f"{memory:,.0f}") for title, cpu, memory in rows]
    data = found["data"]
    return [
        "## What each part is worth",
        "",
        f"Steps of {found['batch']} pairs ({found['pairs']}, prompt {data['prompt_tokens']:.0f} and answers "
        f"{data['answer_tokens']:.0f} tokens on average) with {found['model']}, all weights; the fast type is "
        f"{found['precision']}. Median of the repeats ({len(next(iter(found['results'].values())))}).",
        "",
        *table(("ladder", "CPU s per pair", "MB above the loaded model"), body[:on_ladder]),
        "",
        *(table(("everything, but", "CPU s per pair", "MB above the loaded model"), body[on_ladder:])
          if body[on_ladder:] else []),
        "",
        picture,
        "",
        *page_peers.footer(found),
    ]  # fmt: skip


def _rung(found: Mapping[str, Any], name: str) -> tuple[float, float]:
    from benchmarks.compare import Spread, step_seconds

    results = found["results"][name]
    cpu = Spread.of(step_seconds(each, "cpu", found["warmup"]) for each in results).median / found["batch"]
    return cpu, Spread.of(each["memory"]["above"] for each in results).median


def _methods(found: Mapping[str, Any], folder: Path) -> list[str]:
    body = [
        (
            f"`{name}`",
            row["form"],
            shown(row["first"]),
            shown(row["last"]),
            f"{row['tokens']:.0f}",
            f"{row['cpu']:.2f}",
        )
        for name, row in found["methods"].items()
    ]
    trained = "adapters" if found["lora"] else "all weights"
    return [
        "## Every method",
        "",
        f"{found['steps']} steps with {found['model']} ({trained}), on a few comparisons that are seen again and again: "
        "the mean loss of the first and of the last pass over them. That shows that a method trains on data of its "
        "own form, not that it generalises; losses of different methods cannot be compared.",
        "",
        *table(("method", "data", "loss, first", "last", "tokens a step", "CPU s a step"), body),
        "",
        *page_peers.footer(found),
    ]


def _named(method: str, given: Mapping[str, Any]) -> str:
    return " ".join([f"`{method}`", *(f"`{name}={value}`" for name, value in given.items())])


def _growth(found: Mapping[str, Any], folder: Path) -> list[str]:
    picture = plots.save(folder, "growth", (3.1 * len(found["axes"]), 5), plots.growth(found))
    body = [
        (
            axis["title"],
            form,
            f"{axis['slopes'][form]['cpu']:.2f}",
            f"{axis['slopes'][form]['memory']:.2f}",
            f"{axis['forms'][form][-1]['cpu']:.2f}",
            f"{axis['forms'][form][-1]['memory']:,.0f}",
        )
        for axis in found["axes"].values()
        for form in axis["forms"]
    ]
    header = ("axis", "form", "exponent of time", "exponent of memory", "CPU s at the end", "MB at the end")
    return [
        "## Growth",
        "",
        f"A random Llama of width {found['model']['hidden_size']}, {found['precision']}; time of a step and peak memory "
        f"above the loaded model. Exponents (1: linear, 0: none) are fitted to the largest {found['fitted']} sizes, of what "
        "is above the smallest possible step. `plain` is padded, with whole logits.",
        "",
        *table(header, body),
        "",
        picture,
        "",
        *page_peers.footer(found),
    ]


if __name__ == "__main__":
    print(build(Path(sys.argv[1] if len(sys.argv) > 1 else "docs")))
