"""Seconds and memory of this process, and the token positions that a model computes."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor, nn

from rather.training.machine import peak_memory_mb

_MIB = 2**20


def device() -> torch.device:
    """The GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Meter:
    """Clocks, and the peak of memory above what a process holds once its model is loaded."""

    def __init__(self) -> None:
        self.device = device()
        self.loaded_mb = self.before_mb = 0.0

    def now(self) -> tuple[float, float]:
        """Wall and CPU seconds, after the device has done its work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter(), time.process_time()

    def since(self, start: tuple[float, float]) -> dict[str, float]:
        wall, cpu = self.now()
        return {"wall": wall - start[0], "cpu": cpu - start[1]}

    def loaded(self) -> None:
        """The model is there: measure memory from here."""
        gc.collect()
        self._reset_peak()
        cuda = self.device.type == "cuda"
        now = torch.cuda.memory_allocated() if cuda else psutil.Process().memory_info().rss
        self.loaded_mb = now / _MIB

    def ready(self) -> None:
        """All is made that training needs: measure the steps apart from here."""
        self.before_mb = self._peak()
        self._reset_peak()

    def memory(self) -> dict[str, float]:
        """``above``: what the peak is above the loaded model; ``steps``: what that of the steps is."""
        steps = self._peak()
        peak = max(steps, self.before_mb)
        above = {"above": max(0.0, peak - self.loaded_mb), "steps": max(0.0, steps - self.loaded_mb)}
        return {"loaded": self.loaded_mb, "peak": peak, **above}

    def _peak(self) -> float:
        return _resident_peak() if self.device.type == "cpu" else torch.cuda.max_memory_allocated() / _MIB

    def _reset_peak(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        else:
            with suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak is now the present size


def _resident_peak() -> float:
    """MiB. Not ``ru_maxrss`` where that can be avoided: a child inherits its parent's."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return peak_memory_mb() or 0.0


class Positions:
    """Counts the token positions that pass a model's embedding while gradients are recorded."""

    def __init__(self, model: Any) -> None:
        self.count = 0
        model.get_input_embeddings().register_forward_pre_hook(self._see)

    def _see(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if torch.is_grad_enabled():
            self.count += inputs[0].numel()

    def take(self) -> int:
        count, self.count = self.count, 0
        return count


def count_parameters(model: Any) -> dict[str, int]:
    """``total``, ``trained``, and ``body``: all but the embedding and the head, and without adapters."""
    ends = {id(p) for m in (model.get_input_embeddings(), model.get_output_embeddings()) for p in m.parameters()}
    named = list(model.named_parameters())
    return {
        "total": sum(p.numel() for _, p in named),
        "trained": sum(p.numel() for _, p in named if p.requires_grad),
        "body": sum(p.numel() for name, p in named if id(p) not in ends and "lora_" not in name),
    }


def timed_forward(meter: Meter, forward: Callable[[], None], repeats: int = 2) -> dict[str, float]:
    """The fastest of some calls."""
    found = []
    for _ in range(repeats):
        start = meter.now()
        forward()
        found.append(meter.since(start))
    return {name: min(each[name] for each in found) for name in ("wall", "cpu")}
