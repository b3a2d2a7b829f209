"""What processes have to tell each other, with nothing to do when there is one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from rather.objectives.scores import UNITS


def world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if world_size() > 1 else 0


def total(values: Tensor) -> Tensor:
    """Elementwise sum over the processes."""
    if world_size() > 1:
        values = values.clone()
        dist.all_reduce(values)
    return values


def total_counts(counts: Mapping[str, float], device: torch.device) -> dict[str, float]:
    """Counts of the units, summed over the processes."""
    if world_size() == 1:
        return {unit: float(counts[unit]) for unit in UNITS}
    reduced = total(torch.tensor([counts[unit] for unit in UNITS], dtype=torch.float64, device=device))
    return dict(zip(UNITS, reduced.tolist(), strict=True))


def join(values: Tensor, device: torch.device) -> Tensor:
    """Concatenation of [N, ...] tensors of different N over the processes, in their order."""
    if world_size() == 1:
        return values
    values = values.to(device)
    size = torch.tensor([values.shape[0]], device=device)
    sizes = [torch.zeros_like(size) for _ in range(world_size())]
    dist.all_gather(sizes, size)
    most = max(int(s) for s in sizes)
    padded = torch.cat([values, values.new_zeros(most - values.shape[0], *values.shape[1:])])
    parts = [torch.zeros_like(padded) for _ in sizes]
    dist.all_gather(parts, padded)
    return torch.cat([part[: int(s)] for part, s in zip(parts, sizes, strict=True)])


def from_first(value: Any) -> Any:
    """The first process's value on every process."""
    if world_size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def all_of(value: Any) -> list[Any]:
    """Every process's value, in order of rank, on every process."""
    if world_size() == 1:
        return [value]
    found: list[Any] = [None] * world_size()
    dist.all_gather_object(found, value)
    return found


def barrier() -> None:
    if world_size() > 1:
        dist.barrier()
