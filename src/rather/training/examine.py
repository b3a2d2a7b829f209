"""What a policy that knows the truth about its own samples tells: pass rates and a picture, before and after.

Two optional methods of a policy:
    check(network) -> {name: [N] bool}          which samples pass; the first check is the overall one
    illustrate(network, path) -> str            draws the network's samples as a PNG; returns a caption
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from rather.policies.base import Policy
from rather.stats import paired_change, wilson
from rather.training import world as worlds
from rather.training.record import read_json, write_text
from rather.training.references import scoring_mode
from rather.worlds.catalog import AnswerCheck

When = Literal["before", "after"]


def examine(
    policy: Policy,
    output: Path,
    when: When,
    known: Mapping[str, Any],
    world: AnswerCheck | None = None,
    *,
    draw: bool = True,
) -> dict[str, Any]:
    """``known`` with the present network's pass rates under ``when``; a policy without checks adds nothing.

    A policy that answers in text is checked by the ``world`` its data is from, if there is one.

    With ``draw``, ``samples/{when}.png`` is drawn; once both are there a row of ``samples.jsonl`` shows them side by side.

    Returns:
        ``{"before": {name: {"rate", "interval", "n"}}, "after": ...}``: the ``world`` part of ``evaluation.json``. In
        ``after`` an entry also says what changed, sample by sample: ``change`` of the rate, ``change/interval``,
        numbers ``gained`` and ``lost``, and McNemar's ``p``.
    """
    told: Any = policy
    found = dict(known)
    with torch.no_grad(), scoring_mode(policy.network):
        passed: Mapping[str, Any] | None = None
        if world is not None:
            passed = worlds.check(policy, world, output, when)
        elif callable(getattr(told, "check", None)):
            passed = told.check(policy.network)
        if passed is not None:
            found[when] = {name: _rate(values) for name, values in passed.items()}
            _compare(passed, output / "samples" / "passed.json", when, found[when])
        if draw and callable(getattr(told, "illustrate", None)):
            _draw(told, output, when, found)
    return found


def can_guide(policy: Policy) -> bool:
    """Whether samples of a policy can be guided away from another network."""
    return hasattr(getattr(policy, "policy", policy), "negative")


@contextmanager
def guided_away(policy: Policy, origin: nn.Module | None) -> Iterator[None]:
    """While it lasts, samples are those of ``origin``, guided away from the policy's present network: what a negative model
    is for. Without an origin nothing changes."""
    own: Any = getattr(policy, "policy", policy)
    network = own.network
    if origin is not None:
        own.network, own.negative = origin.to(next(network.parameters()).device), network
    try:
        yield
    finally:
        if origin is not None:
            own.network, own.negative = network, None


def known_before(output: Path) -> dict[str, Any]:
    """What an interrupted run found out before its first step."""
    world = read_json(output / "evaluation.json").get("world")
    return dict(world) if isinstance(world, Mapping) else {}


def _rate(passed: Any) -> dict[str, Any]:
    number, total = int(passed.sum()), len(passed)
    return {"rate": number / total, "interval": list(wilson(number, total)), "n": total}


def _compare(passed: Mapping[str, Any], path: Path, when: When, rates: dict[str, dict[str, Any]]) -> None:
    """Before training, keep which samples pass; after it, say what changed of those."""
    kept = {name: [bool(value) for value in values] for name, values in passed.items()}
    if when == "before":
        path.parent.mkdir(exist_ok=True)
        write_text(path, json.dumps({name: "".join("01"[value] for value in values) for name, values in kept.items()}))
        return
    for name, earlier in read_json(path).items():
        if len(earlier) == len(kept.get(name, ())):
            change = paired_change([value == "1" for value in earlier], kept[name])
            rates[name] |= {"change": change.change, "change/interval": list(change.interval)}
            rates[name] |= {"gained": change.gained, "lost": change.lost, "p": change.p}


def _draw(policy: Any, output: Path, when: When, found: Mapping[str, Any]) -> None:
    folder = output / "samples"
    folder.mkdir(exist_ok=True)
    partial = folder / f".{when}.partial"
    caption = policy.illustrate(policy.network, partial)
    os.replace(partial, folder / f"{when}.png")
    if when == "after" and (folder / "before.png").exists():
        rates = {
            side: {name: round(entry["rate"], 4) for name, entry in found.get(side, {}).items()}
            for side in ("before", "after")
        }
        row = {"prompt": caption, "before": "samples/before.png", "after": "samples/after.png", "checks": rates}
        path = output / "samples.jsonl"
        others = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        kept = [line for line in others if '"before": "samples/before.png"' not in line]
        write_text(path, "".join(f"{line}\n" for line in [*kept, json.dumps(row, ensure_ascii=False)]))
