"""What the numbers were made with."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from rather.training.record import now, versions

PEAK_TFLOPS = {"H100": 989.0, "H200": 989.0, "A100": 312.0, "L40S": 362.0, "L4": 121.0, "RTX 4090": 165.0}
"""Dense bf16 products by name of the GPU, from the makers' data sheets; for model FLOP utilisation."""


def describe() -> dict[str, Any]:
    """Processor, device, threads, versions and load of this machine."""
    import torch

    found = versions()
    for name in ("trl", "diffusers", "liger-kernel", "flash-attn"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "date": now()[:10],
        "cpu": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
        "peak_tflops": next((peak for name, peak in PEAK_TFLOPS.items() if gpu and name in gpu), None),
        "system": f"{platform.system()} {platform.machine()}",
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "versions": found,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def precision(asked: Literal["auto", "bf16", "fp32"]) -> Literal["bf16", "fp32"]:
    """The type that every contender computes in; ``auto`` is bf16 where this machine has it."""
    import torch

    from benchmarks.meter import device
    from rather.policies.precision import compute_dtype

    return "bf16" if compute_dtype(asked, device()) == torch.bfloat16 else "fp32"
