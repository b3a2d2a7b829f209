"""The report's plain tables: data, method, model and versions, from nested values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rather.report.numbers import duration, shown, when
from rather.report.run_folder import RunFolder
from rather.report.series import series
from rather.training import profile

Pairs = list[tuple[str, str]]

WORDS = {
    "n": "examples",
    "rows": "rows",
    "refused": "rows refused",
    "refused_by_reason": "rows refused, by reason",
    "format": "format",
    "fingerprint": "fingerprint",
    "truncated": "truncated",
    "encoding": "",
    "encoded": "used",
    "dropped": "left out",
    "dropped_rows": "rows left out",
    "length_bias": "length bias",
    "lr": "learning rate",
    "num_parameters": "parameters",
}


LISTED = 5
"""Items of a list that are shown."""


def words(*path: str) -> str:
    """Keys as words: ``("length_bias", "chosen_longer")`` is ``length bias: chosen longer``; a sentence stays."""
    said = [WORDS.get(part, part.replace("_", " ") if part.isidentifier() else part) for part in path]
    return ": ".join(part for part in said if part)


def flat(value: Any, *path: str) -> Pairs:
    """Nested values as (words, text): statistics in one line, empty mappings and lists as ``none``."""
    name = words(*path)
    if isinstance(value, Mapping) and "mean" in value and all(isinstance(v, int | float) for v in value.values()):
        return [(name, ", ".join(f"{key} {shown(inner)}" for key, inner in value.items() if key != "sum"))]
    if isinstance(value, Mapping) and value:
        return [row for key, inner in value.items() for row in flat(inner, *path, str(key))]
    if isinstance(value, Mapping) or value == []:
        return [(name, "none")]
    if isinstance(value, list):
        if any(isinstance(item, Mapping) for item in value):
            return [row for index, item in enumerate(value) for row in flat(item, *path, str(index + 1))]
        told = [shown(item) for item in value[:LISTED]]
        more = [f"and {len(value) - LISTED} more (in run.json)"] if len(value) > LISTED else []
        return [(name, ", ".join(told + more))]
    return [(name, shown(value))]


def data(run: RunFolder) -> list[tuple[str, Pairs]]:
    """One table for each split that the run describes (``train``, ``eval``), or a single one."""
    summary = run.run.get("data")
    if not isinstance(summary, Mapping) or not summary:
        return []
    titles = {"train": "Training data", "eval": "Held-out data"}
    found, rest = [], {}
    for key, value in summary.items():
        if isinstance(value, Mapping) and key in titles:
            found.append((titles[key], flat(value) + answer_lengths(run, key)))
        elif value is not None:
            rest[key] = value
    if rest:
        found.append(("Data" if not found else "Both splits", flat(rest)))
    return found


def answer_lengths(run: RunFolder, split: str) -> Pairs:
    """Mean length of chosen and rejected answers, as logged in this split."""
    found: Pairs = []
    for side in ("chosen", "rejected"):
        curve = series(run.metrics, f"length/{side}", split)
        if curve is not None and curve.finite.any():
            found.append((f"mean length of {side} answers, tokens", shown(float(curve.values[curve.finite].mean()))))
    return found


def method(run: RunFolder) -> Pairs:
    """Options of the method by the names they are given by: ``labels.flip_rate``."""
    options = run.method.get("options")
    return _dotted(options) if isinstance(options, Mapping) else []


def _dotted(options: Mapping[str, Any], prefix: str = "") -> Pairs:
    found: Pairs = []
    for key, value in options.items():
        name = f"{prefix}{key}"
        found += _dotted(value, f"{name}.") if isinstance(value, Mapping) else [(name, shown(value))]
    return found


def machine(run: RunFolder) -> Pairs:
    """Model, parameters, device, time and memory."""
    record = run.run
    found: Pairs = []
    model = record.get("model")
    found += flat(model, "model") if isinstance(model, Mapping) else [("model", run.model_name)]
    parameters = record.get("parameters")
    if isinstance(parameters, Mapping) and parameters.get("total"):
        trained, total = parameters.get("trained", 0), parameters["total"]
        found.append(("parameters trained", f"{shown(trained)} of {shown(total)} ({trained / total:.2%})"))
    for key, label in (("device", "device"), ("world_size", "processes")):
        if record.get(key) is not None:
            found.append((label, shown(record[key])))
    found += [(key, when(record[key])) for key in ("started", "finished") if record.get(key)]
    if isinstance(record.get("seconds"), int | float):
        found.append(("time", duration(float(record["seconds"]))))
    if isinstance(record.get("peak_memory_mb"), int | float):
        found.append(("peak memory", f"{shown(round(record['peak_memory_mb']))} MB"))
    return found


def versions(run: RunFolder) -> Pairs:
    value = run.run.get("versions")
    return flat(value) if isinstance(value, Mapping) and value else []


def speed(run: RunFolder) -> Pairs:
    """Seconds by phase, tokens per second, wasted tokens, use of the machine (of a run with ``--profile``), memory."""
    said = run.run.get("profile")
    peak, threads = (said.get(k) for k in ("peak_flops", "threads")) if isinstance(said, Mapping) else (None, None)
    outside, memory = run.run.get("seconds_outside"), run.run.get("peak_memory_mb")
    found = profile.summary(run.metrics, outside if isinstance(outside, Mapping) else {}, memory, peak, threads)
    return [(label, text) for label, text in profile.table(found)] if found["seconds"] else []
