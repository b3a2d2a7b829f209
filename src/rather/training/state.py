"""Module and optimizer state as flat named tensors, whole whatever the sharding.

Gathering is collective: every process calls it, in the same order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor


def whole(tensor: Tensor) -> Tensor:
    """A contiguous CPU copy of the full tensor."""
    tensor = tensor.detach()
    if isinstance(tensor, DTensor):
        tensor = tensor.full_tensor()
    return tensor.to("cpu", copy=True).contiguous()


@torch.no_grad()
def fill(target: Tensor, value: Tensor) -> None:
    """Copy a full tensor into a (possibly sharded) one.

    Raises:
        ValueError: the shapes differ.
    """
    if target.shape != value.shape:
        raise ValueError(f"shape {tuple(value.shape)} where {tuple(target.shape)} is wanted")
    value = value.to(target.device)
    if isinstance(target, DTensor):
        target.copy_(distribute_tensor(value.to(target.dtype), target.device_mesh, target.placements))
    else:
        target.copy_(value)


def trained_state(module: nn.Module) -> dict[str, Tensor]:
    """What training changes: parameters that require a gradient, and persistent buffers, by name."""
    persistent = set(module.state_dict().keys())
    buffers = {name: buffer for name, buffer in module.named_buffers() if name in persistent}
    return {**{name: p for name, p in module.named_parameters() if p.requires_grad}, **buffers}


def gather(module: nn.Module) -> dict[str, Tensor]:
    """Full CPU copies of ``trained_state``."""
    return {name: whole(tensor) for name, tensor in trained_state(module).items()}


def load_into(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put gathered tensors back.

    Raises:
        ValueError: names or shapes are not those of the module.
    """
    own = trained_state(module)
    if own.keys() != state.keys():
        odd = sorted(own.keys() ^ state.keys())
        raise ValueError(f"{len(odd)} tensors do not match, first {odd[0]}")
    parameters = dict(module.named_parameters())
    for name, tensor in own.items():
        if name not in parameters and tensor.shape != state[name].shape:
            tensor.resize_(state[name].shape)  # a table that grows with the examples it has seen
        fill(tensor, state[name])


def gather_optimizer(optimizer: torch.optim.Optimizer, modules: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Optimizer state as ``<module>.<parameter>|<entry>``; numbers become 0-d tensors."""
    flat: dict[str, Tensor] = {}
    for name, parameter in _named(modules):
        for entry, value in optimizer.state.get(parameter, {}).items():
            flat[f"{name}|{entry}"] = whole(value) if isinstance(value, Tensor) else torch.tensor(value)
    return flat


def load_optimizer(
    optimizer: torch.optim.Optimizer, modules: Mapping[str, nn.Module], state: Mapping[str, Tensor]
) -> None:
    """Put gathered optimizer state back, laid out as each parameter is."""
    parameters = dict(_named(modules))
    optimizer.state.clear()
    for key, value in state.items():
        name, _, entry = key.rpartition("|")
        if name not in parameters:
            raise ValueError(f"optimizer state of {name!r}, which is not a trained parameter")
        parameter = parameters[name]
        optimizer.state[parameter][entry] = _placed(value, entry, parameter)


def _placed(value: Tensor, entry: str, parameter: nn.Parameter) -> Any:
    if value.dim() == 0 or entry == "step":
        # Fused AdamW keeps the step count beside the parameter, on its device; on the CPU that is the CPU.
        return value.to(parameter.device)
    if isinstance(parameter, DTensor):
        return distribute_tensor(value.to(parameter.device), parameter.device_mesh, parameter.placements)
    return value.to(parameter.device)


def _named(modules: Mapping[str, nn.Module]) -> list[tuple[str, nn.Parameter]]:
    return [
        (f"{prefix}.{name}", parameter)
        for prefix, module in modules.items()
        for name, parameter in module.named_parameters()
        if parameter.requires_grad
    ]
