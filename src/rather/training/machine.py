"""The machine's settings that decide the speed of training on a CPU."""

from __future__ import annotations

import ctypes
import os
import platform
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4
_THRESHOLD = 2**31 - 1


def prepare_cpu() -> dict[str, str]:
    """Thread count and allocator, unless the user has set them; returns what was set.

    glibc gives large blocks back to the system when they are freed and page-faults them in again at the next step;
    raising both thresholds keeps them. The cost is that memory once used stays with the process. Blocks of some size
    are asked for in huge pages, if torch has not allocated anything yet: it reads that variable once.
    """
    return {**_threads(), **_allocator()}


def _threads() -> dict[str, str]:
    if any(os.environ.get(name) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")):
        return {}
    import torch

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    threads = max(1, min(usable, torch.get_num_threads() if processes == 1 else usable) // processes)
    if threads != torch.get_num_threads():
        torch.set_num_threads(threads)
        return {"threads": str(threads)}
    return {}


def _allocator() -> dict[str, str]:
    tuned = any(name.startswith("MALLOC_") for name in os.environ) or "tcmalloc" in os.environ.get("LD_PRELOAD", "")
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc" or tuned:
        return {}
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    try:
        libc = ctypes.CDLL(None)
        # Some versions have a ceiling for the first threshold: there no block at all is mapped by itself.
        kept = libc.mallopt(_M_MMAP_THRESHOLD, _THRESHOLD) or libc.mallopt(_M_MMAP_MAX, 0)
        done = kept and libc.mallopt(_M_TRIM_THRESHOLD, _THRESHOLD)
    except (AttributeError, OSError):
        return {}
    return {"allocator": "freed memory is kept"} if done else {}


def peak_memory_mb() -> float | None:
    """Peak memory of this process so far: of the accelerator if there is one, else resident; MiB."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def available_memory_mb() -> float | None:
    """Free memory of the device that would train, MiB; ``None`` when it cannot be told."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.mem_get_info()[0] / 2**20
    import psutil

    return psutil.virtual_memory().available / 2**20
