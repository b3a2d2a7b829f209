"""The part of the page that compares with TRL."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import cases, compare, plots
from rather.report.numbers import shown
from rather.studies.report import table

NAMES = {
    "rather lean": "rather, checkpointing",
    "trl default": "TRL as it comes",
    "trl best": "TRL at its best",
}
QUANTITIES = {
    "step": "time of a step",
    "epoch": "time of an epoch, reference pass included",
    "memory": "peak memory above the loaded model",
}

FACTORS = ("case", "against", "wall time", "CPU time", "memory", "losses differ by", "log-probabilities differ by")
RAW = (
    "case",
    "contender",
    "s per step",
    "CPU s per step",
    "positions per needed one",
    "reference pass, CPU s per pair",
    "MB above the loaded model",
)

ABOUT = """*TRL as it comes* is `DPOTrainer` with its own defaults: bf16, gradient checkpointing, the reference model
computed in every step. *TRL at its best* is the fastest we know how to make it: reference log-probabilities computed
once, no checkpointing, the allocator tuned as `rather` tunes it, and on a GPU FlashAttention and Liger kernels where
they are installed. Both use TRL's chunked output layer, and pad on the right. `rather` runs `rather.train` with default
settings; *rather, checkpointing* adds `--gradient-checkpointing`. Loss (DPO, beta 0.1), AdamW, learning rate and seed
are the same."""

AGREEMENT = """Differences are the largest of any step and of any answer (of the reference's log-probability, summed over
its tokens). In bfloat16 they are rounding: other batch shapes round otherwise. A run whose losses on real pairs or
whose log-probabilities differ by more fails."""

LISTS = """TRL has no loss over lists: it is given a comparison of one preferred and k rejected answers as k pairs, and
`rather` the same loss over the k edges of one list (a list-wise method such as `sdpo` costs the same forward and
backward pass)."""


def section(found: Mapping[str, Any], folder: Path) -> list[str]:
    clock = judged_by(found)
    picture = plots.save(folder, "peers", (9, 0.9 + 0.62 * len(found["cases"])), plots.peers(found, clock))
    repeats = len(found["cases"][0]["results"]["rather"])
    return [
        "## Against TRL",
        "",
        f"{found['model']}, {found['precision']}, {repeats} repeat{'' if repeats == 1 else 's'}. Factors are the "
        "peer's number over that of `rather`: above 1, `rather` is better. Median of the repeats, with least and most.",
        "",
        ABOUT,
        "",
        "### Targets",
        "",
        f"Judged by {'wall-clock time' if clock == 'wall' else 'CPU time of the process, as the machine may be shared'}.",
        "",
        *table(("case", "quantity", "against", "target", "measured", ""), _targets(found, clock)),
        "",
        picture,
        "",
        "### All cases",
        "",
        *table(FACTORS, _all(found)),
        "",
        AGREEMENT,
        "",
        LISTS,
        "",
        *table((*RAW, *_speed_header(found)), _raw(found)),
        "",
        *_scoring(found),
        *_data(found),
        *footer(found),
    ]


def judged_by(found: Mapping[str, Any]) -> str:
    """The clock that targets are about."""
    return "wall" if found["environment"]["gpu"] else "cpu"


def measured(
    found: Mapping[str, Any], case: Mapping[str, Any], quantity: str, peer: str, clock: str, own: str = "rather"
) -> compare.Spread:
    """A quantity of the targets."""
    ours, warmup = case["results"][own], found["warmup"]
    if quantity == "computed":
        return compare.Spread.of(compare.computed(each) for each in ours)
    measure = {
        "step": lambda each: compare.step_seconds(each, clock, warmup),
        "epoch": lambda each: compare.epoch_seconds(each, clock, warmup),
        "memory": lambda each: each["memory"]["above"],
    }[quantity]
    return compare.ratios(ours, case["results"][peer], measure)


def _targets(found: Mapping[str, Any], clock: str) -> list[tuple[str, ...]]:
    by_name = {case["name"]: case for case in found["cases"]}
    rows = []
    for target in cases.TARGETS:
        case = by_name.get(target.case)
        if case is None or not {target.peer, target.ours} <= case["results"].keys():
            continue
        spread = measured(found, case, target.quantity, target.peer, clock, target.ours)
        met = spread.median <= target.wanted if target.most else spread.median >= target.wanted
        rows.append(
            (
                case["title"] + (f" ({NAMES[target.ours]})" if target.ours in NAMES else ""),
                QUANTITIES.get(target.quantity, "token positions computed per needed one"),
                NAMES.get(target.peer, ""),
                f"at {'most' if target.most else 'least'} {shown(target.wanted)}",
                _spread(spread),
                "met" if met else "**not met**",
            )
        )
    return rows


def _spread(spread: compare.Spread) -> str:
    text = f"{spread.median:.2f}"
    return text if spread.least == spread.most else f"{text} ({spread.least:.2f} to {spread.most:.2f})"


def _all(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    rows = []
    for case in found["cases"]:
        for peer, off in case["loss_difference"].items():
            factors = [
                _spread(measured(found, case, quantity, peer, clock))
                for quantity, clock in (("step", "wall"), ("step", "cpu"), ("memory", "cpu"))
            ]
            nats = case["logps_difference"][peer]
            told = "" if nats is None else f"{shown(nats, 2)} nats"
            rows.append((case["title"], NAMES[peer], *factors, shown(off, 2), told))
    return rows


def _speed_header(found: Mapping[str, Any]) -> tuple[str, ...]:
    gpu = found["environment"]["gpu"]
    return ("model TFLOP/s", "MFU") if gpu else ("model GFLOP/s",)


def _raw(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Medians of the repeats for each contender; speeds count needed positions only."""
    warmup, peak = found["warmup"], found["environment"]["peak_tflops"]
    rows = []
    for case in found["cases"]:
        for contender, results in case["results"].items():
            wall, cpu = (
                compare.Spread.of(compare.step_seconds(each, clock, warmup) for each in results).median
                for clock in ("wall", "cpu")
            )
            first = results[0]
            needed = sum(first["needed"][warmup:]) / len(first["needed"][warmup:])
            flops = compare.model_flops(first, needed) / wall
            speed = (f"{flops / 1e9:,.0f}",)
            if found["environment"]["gpu"]:
                speed = (f"{flops / 1e12:,.1f}", f"{flops / 1e12 / peak:.1%}" if peak else "")
            pairs = case["data"]["pairs"]
            reference = [each["reference"]["cpu"] / pairs for each in results if each["reference"]]
            rows.append(
                (
                    case["title"],
                    NAMES.get(contender, contender),
                    f"{wall:.2f}",
                    f"{cpu:.2f}",
                    f"{compare.computed(first):.2f}",
                    f"{compare.Spread.of(reference).median:.3f}" if reference else "in every step",
                    f"{compare.Spread.of(each['memory']['above'] for each in results).median:,.0f}",
                    *speed,
                )
            )
    return rows


def _scoring(found: Mapping[str, Any]) -> list[str]:
    """Forward passes with and without gradient."""
    rows = []
    for case in found["cases"]:
        for contender, results in case["results"].items():
            timed = [each["scoring"] for each in results if each["scoring"]]
            if timed:
                train, score = (
                    compare.Spread.of(each[name]["cpu"] for each in timed).median / case["batch"]
                    for name in ("train", "score")
                )
                row = (NAMES.get(contender, contender), f"{train:.3f}", f"{score:.3f}", f"{score / train:.2f}")
                rows.append((case["title"], *row))
    if not rows:
        return []
    return [
        "Scoring alone (evaluation, reference pass) against the forward pass of training, CPU seconds per pair, faster "
        "of two:",
        "",
        *table(("case", "contender", "training forward", "scoring", "scoring over training"), rows),
        "",
    ]


def _data(found: Mapping[str, Any]) -> list[str]:
    rows = []
    for case in found["cases"]:
        data = case["data"]
        source = found["pairs"] if case["real"] else "random tokens"
        lengths = (f"{data['prompt_tokens']:.0f}", f"{data['answer_tokens']:.0f}", f"{data['longest']:,}")
        notes = {note for results in case["results"].values() for each in results for note in each["notes"]}
        rows.append((case["title"], source, shown(case["batch"]), *lengths, "; ".join(sorted(notes))))
    header = ("case", "comparisons", "of a step", "prompt tokens", "answer tokens", "longest", "notes")
    return ["Data (lengths are means):", "", *table(header, rows), ""]


def footer(found: Mapping[str, Any]) -> list[str]:
    """The command, the machine, and what there is to say about this run."""
    machine, versions = found["environment"], found["environment"]["versions"]
    where = machine["gpu"] or f"{machine['cpu']}, {machine['threads']} of {machine['cores']} cores"
    names = ("rather", "torch", "transformers", "trl", "peft", "diffusers", "accelerate", "liger-kernel", "flash-attn")
    said = ", ".join(f"{name} {versions[name]}" for name in names if name in versions)
    load = f"; load {machine['load']:.1f} before the start" if machine["load"] is not None else ""
    return [
        *([f"**{found['note']}**", ""] if found["note"] else []),
        *(["A trial in one process: its memory figures mean nothing.", ""] if found["in_process"] else []),
        "```",
        found["command"],
        "```",
        "",
        f"{machine['date']}, {where}, {machine['system']}{load}; {said}.",
        "",
    ]
