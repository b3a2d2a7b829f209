"""Where a run's time went, and how much of the machine it used."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rather.training.display import shown

if TYPE_CHECKING:
    import torch

_REPEATS = 5


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Add the time inside to ``seconds[name]``."""
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - start


def matmul_peak(dtype: torch.dtype, device: torch.device) -> float:
    """Operations per second of a large product of two matrices: the best of a few, on this device and now.

    On a processor in the time that its threads ran, so that what else the machine does is left out.
    """
    import torch

    size = 2048 if device.type == "cpu" else 8192
    a, b = (torch.ones(size, size, dtype=dtype, device=device) for _ in range(2))
    best = float("inf")
    for _ in range(_REPEATS + 1):  # the first is to warm up
        _wait(device)
        start = _now(device)
        torch.nn.functional.linear(a, b)
        _wait(device)
        best = min(best, _now(device) - start)
    return 2 * size**3 / best


def _now(device: torch.device) -> float:
    import torch

    return time.process_time() / torch.get_num_threads() if device.type == "cpu" else time.perf_counter()


def _wait(device: torch.device) -> None:
    import torch

    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def summary(
    rows: Sequence[Mapping[str, Any]],
    outside: Mapping[str, float],
    memory: float | None,
    peak: float | None,
    threads: int | None = None,
) -> dict[str, Any]:
    """Totals of a run's training steps.

    Args:
        rows: of ``metrics.jsonl``; those of training are taken.
        outside: seconds of what is not a training step.
        memory: peak memory in MB.
        peak: operations per second that products could have been done at, on all devices together.
        threads: that computed, where a processor did.

    Returns:
        ``seconds`` by phase; ``tokens_per_second``: needed tokens in the time of the steps; ``waste``: tokens computed
        over tokens needed; ``flops``: operations needed by all forward and backward passes; ``mfu``: their share of
        what ``peak`` allows in the time of the steps; ``peak_flops``; ``threads``; ``busy``: share of that time in which
        the threads ran; ``mfu_busy``: the share of the peak in the time that they ran; ``peak_memory_mb``. What is not
        known is left out.
    """
    totals: dict[str, float] = {}
    for row in rows:
        if row.get("split") == "train":
            for key, value in row.items():
                if isinstance(value, int | float):
                    totals[key] = totals.get(key, 0.0) + value
    seconds = {key.removeprefix("seconds/"): value for key, value in totals.items() if key.startswith("seconds/")}
    whole = sum(seconds.values())
    needed, computed, flops = (totals.get(key, 0.0) for key in ("tokens/needed", "tokens/computed", "flops"))
    found: dict[str, Any] = {"seconds": {**seconds, **outside}}
    if whole and needed:
        found |= {"tokens_per_second": needed / whole, "waste": computed / needed}
    if whole and flops:
        found["flops"] = flops
        if peak:
            found |= {"mfu": flops / whole / peak, "peak_flops": peak}
    ran = totals.get("seconds_cpu")
    if whole and ran and threads:
        found |= {"threads": threads, "busy": ran / threads / whole}
        if "mfu" in found:
            found["mfu_busy"] = found["mfu"] / found["busy"]
    if memory is not None:
        found["peak_memory_mb"] = memory
    return found


def table(found: Mapping[str, Any]) -> list[list[str]]:
    """Rows of two columns for the terminal."""
    whole = sum(found["seconds"].values()) or 1.0
    rows = [[f"{name}, s", f"{value:,.2f} ({value / whole:.0%})"] for name, value in found["seconds"].items()]
    words = (
        ("tokens_per_second", "tokens per second", lambda v: f"{v:,.0f}"),
        ("waste", "tokens computed over needed", lambda v: f"{v:.3f}"),
        ("flops", "operations needed", lambda v: f"{v:.3g}"),
        ("peak_flops", "peak of matrix products, GFLOP/s", lambda v: f"{v / 1e9:,.0f}"),
        ("mfu", "share of that peak (MFU)", lambda v: f"{v:.1%}"),
        ("busy", "share of the time that its threads ran", lambda v: f"{v:.1%}"),
        ("mfu_busy", "MFU in that time", lambda v: f"{v:.1%}"),
        ("peak_memory_mb", "peak memory, MB", lambda v: shown(round(v))),
    )
    return rows + [[label, say(found[key])] for key, label, say in words if key in found]
