"""The section about images."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import page_peers
from benchmarks.compare import Spread, ratios, step_seconds
from benchmarks.run_images import PLAIN
from rather.report.numbers import shown
from rather.studies.report import table

PHASES = ("data", "vae", "text", "reference", "forward", "backward", "optimizer")
FASTER, MEMORY = 1.5, 0.7
"""What the project aims at: the plain loop's time over ours at least, our memory over its at most."""
WIDTHS = {
    "whole": "Stable Diffusion 1.5's own widths", "quarter": "A quarter of every width", "tiny": "Tiny"
}  # fmt: skip


INTRODUCTION = """## Images

`diffusion_dpo --lora` on a Stable Diffusion with random weights. The plain loop runs VAE, text encoder and reference
in every step; *tuned* is the same with the allocator as `rather` sets it, *two models* the plain loop with a second
UNet as reference instead of the same one without its adapters. `rather` is measured with its cache filled; filling it
is the last row; pictures for the report are left out. Memory is resident memory above that of the loaded pipeline,
whose file is mapped and hardly read yet; the steps' own is apart, as weights of the file are read once to tell
whether anything has changed, and held in the fast type from then on, off the mapped file.

What `rather` saves in time: VAE and text encoder; the cast of all weights to the fast type, which autocast repeats in
every pass; and, on a processor, part of the convolutions. torch brings the weights of one into an order of its own in
every call, and where images have few pixels and the layer many channels that takes longer than the convolution; there
`rather` takes one product with the weights as they lie. *torch convolutions* is `rather` without that. What it cannot
save is the rest of the UNet: the more pixels, the more of a step is attention, which is torch's own in all of them.
"""


def section(all_found: Sequence[Mapping[str, Any]]) -> list[str]:
    """Of every size and side that was measured, largest networks first."""
    order = sorted(all_found, key=lambda found: (-_parameters(found)["unet"], found["side"]))
    return [INTRODUCTION, *(line for found in order for line in _one(found))] if order else []


def _parameters(found: Mapping[str, Any]) -> Mapping[str, int]:
    return found["results"]["rather"][0]["parameters"]


def _one(found: Mapping[str, Any]) -> list[str]:
    results, parts = found["results"], _parameters(found)
    millions = ", ".join(f"{name} {parts[name] / 1e6:.1f}" for name in ("unet", "vae", "text"))
    here, published = (_shares(found["gflops"][name]) for name in ("here", "sd15"))
    same = found["agreement"]
    return [
        f"### {WIDTHS[found['size']]}, {found['side']} x {found['side']} pixels",
        "",
        f"{millions} M parameters, {parts['trained'] / 1e6:.2f} M trained; pairs a step: {found['batch']}; "
        f"{found['precision']}, {len(results['rather'])} repeats in turns: median (least to most).",
        "",
        *table(("", "s a step", "CPU s a step", "MB above the pipeline", "MB in its steps"), _rows(found)),
        "",
        *table(("", *PLAIN, "aim"), _ratios(found)),
        "",
        *_filling(found),
        "",
        f"With torch's convolutions in all layers a step of `rather` takes {_told(_without_products(found), 2)} times as "
        "long.",
        "",
        "Seconds of a step by phase (median step; of `rather`, drawing the noise is in the reference):",
        "",
        *table(("", *PHASES), [(name, *_phases(found, name)) for name in ("rather", *PLAIN)]),
        "",
        "Operations of a forward pass, as shares of the UNet's: here VAE "
        f"{here['vae']:.2f} an image, text encoder {here['text']:.2f} a caption; Stable Diffusion 1.5 at 512 pixels "
        f"{published['vae']:.2f} and {published['text']:.2f}.",
        "",
        f"On the same pairs, noise and timesteps, with adapters that are no identity, both losses in float32 are "
        f"{same['rather']:.6f} and {same['plain']:.6f}; first losses are at most {shown(found['start_off'], 2)} off log 2.",
        "",
        *page_peers.footer(found),
    ]  # fmt: skip


def _seconds(clock: str, warmup: int) -> Any:
    return lambda result: step_seconds(result, clock, warmup)


def _shares(gflops: Mapping[str, float]) -> dict[str, float]:
    return {name: value / gflops["unet"] for name, value in gflops.items()}


def _told(spread: Spread, digits: int) -> str:
    return f"{spread.median:,.{digits}f} ({spread.least:,.{digits}f} to {spread.most:,.{digits}f})"


def _rows(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    rows = []
    for name in ("rather", "torch convolutions", *PLAIN, "filling"):
        results = found["results"][name]
        clocks = [Spread.of(map(_seconds(clock, found["warmup"]), results)) for clock in ("wall", "cpu")]
        memory = [Spread.of(each["memory"][what] for each in results) for what in ("above", "steps")]
        rows.append((name, *(_told(each, 2) for each in clocks), *(_told(each, 0) for each in memory)))
    return rows


def _ratios(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    ours, rows = found["results"]["rather"], []
    peers = [found["results"][name] for name in PLAIN]
    for title, clock in (("faster, by the clock", "wall"), ("faster, CPU", "cpu")):
        spreads = [ratios(ours, peer, _seconds(clock, found["warmup"])) for peer in peers]
        rows.append((title, *(_judged(each, each.median >= FASTER) for each in spreads), f"at least {FASTER}"))
    # A loop that stays below what loading left behind has no share to tell.
    for title, what in (("our share of the memory", "above"), ("the same in the steps", "steps")):
        shares = [
            Spread.of(a["memory"][what] / max(b["memory"][what], 1.0) for a, b in zip(ours, peer, strict=True))
            for peer in peers
        ]
        rows.append((title, *(_judged(s, s.median <= MEMORY) for s in shares), f"at most {MEMORY}"))
    return rows


def _without_products(found: Mapping[str, Any]) -> Spread:
    results = found["results"]
    return ratios(results["rather"], results["torch convolutions"], _seconds("wall", found["warmup"]))


def _judged(spread: Spread, met: bool) -> str:
    return f"{_told(spread, 2)}, {'met' if met else 'not met'}"


def _filling(found: Mapping[str, Any]) -> list[str]:
    results, batch, warmup = found["results"], found["batch"], found["warmup"]
    middle = {
        name: statistics.median(step_seconds(each, "wall", warmup) for each in results[name]) / batch
        for name in ("filling", "rather", "plain", "plain tuned")
    }
    said = []
    for name in ("plain", "plain tuned"):
        saved = middle[name] - middle["rather"]
        passes = f"after {middle['filling'] / saved:.2f} passes over the same data" if saved > 0 else "never"
        said.append(f"against {name} {passes}")
    return [
        f"Filling the cache costs {middle['filling']:.2f} s a pair once (all images and captions new) and is paid back "
        f"{', '.join(said)}; in a first run of one pass both are paid: {middle['filling'] + middle['rather']:.2f} s a "
        f"pair, the plain loop {middle['plain']:.2f}, tuned {middle['plain tuned']:.2f}. A pass over N pairs is N / "
        f"{batch} steps."
    ]  # fmt: skip


def _phases(found: Mapping[str, Any], name: str) -> list[str]:
    steps = [step["phases"] for each in found["results"][name] for step in each["steps"][found["warmup"] :]]
    return [
        f"{statistics.median(step[phase] for step in steps):.2f}" if phase in steps[0] else "none" for phase in PHASES
    ]
