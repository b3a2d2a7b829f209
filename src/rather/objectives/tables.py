"""Numbers kept for each example: tables keyed by stable ids, not by a position in a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rather.objectives.scores import Layout

_SPREAD = 0x9E3779B1  # odd and below 2^32, so that its product with an edge's number stays below 2^63


def edge_keys(layout: Layout) -> Tensor:
    """[K] int64 stable key of each edge: of its comparison's key and its number in the comparison.

    The same edge has the same key in every batch, process and run. The first edge of a comparison has the
    comparison's own key.
    """
    order = layout.edge_list.argsort(stable=True)
    sizes = torch.bincount(layout.edge_list, minlength=layout.lists)
    starts = (sizes.cumsum(0) - sizes)[layout.edge_list[order]]
    number = torch.empty_like(order)
    number[order] = torch.arange(layout.edges, device=order.device) - starts
    return layout.key[layout.edge_list] ^ (number * _SPREAD)


class KeyedTable(nn.Module):
    """Key -> number; grows with the keys it has met, and is a pair of buffers.

    Args:
        start: the number of a key that was not met yet.
    """

    keys: Tensor
    values: Tensor

    def __init__(self, start: float) -> None:
        super().__init__()
        self.start = start
        self.register_buffer("keys", torch.empty(0, dtype=torch.long))
        self.register_buffer("values", torch.empty(0))
        self.register_load_state_dict_pre_hook(self._fit)

    def forward(self, key: Tensor) -> Tensor:
        """[N] numbers of the keys [N]."""
        at, known = self._find(key)
        if not self.keys.numel():
            return self.values.new_full(key.shape, self.start)
        return torch.where(known, self.values[at], self.start)

    def put(self, key: Tensor, values: Tensor) -> None:
        """Store numbers [N] of different keys [N]."""
        values = values.detach().to(self.values)
        at, known = self._find(key)
        self.values[at[known]] = values[known]
        if bool(known.all()):
            return
        every = torch.cat([self.keys, key[~known]])
        order = every.argsort()
        joined = torch.cat([self.values, values[~known]])[order]
        # In place, so that whoever holds the buffers (a data-parallel wrapper) sees them grow.
        self.keys.resize_(every.shape).copy_(every[order])
        self.values.resize_(every.shape).copy_(joined)

    def _find(self, key: Tensor) -> tuple[Tensor, Tensor]:
        """[N] place of each key in the sorted table, and whether it is there."""
        size = self.keys.numel()
        if not size:
            return torch.zeros_like(key), torch.zeros_like(key, dtype=torch.bool)
        at = torch.searchsorted(self.keys, key).clamp(max=size - 1)
        return at, self.keys[at] == key

    @staticmethod
    def _fit(table: nn.Module, state_dict: Mapping[str, Any], prefix: str, *_: Any) -> None:
        """Make room for the entries that are about to be loaded."""
        for name in ("keys", "values"):
            if prefix + name in state_dict:
                table.get_buffer(name).resize_(state_dict[prefix + name].shape)


def mean_by_key(key: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Different keys [M], sorted, and the mean of ``values`` [N] over each one's entries."""
    different, index = key.unique(return_inverse=True)
    total = values.new_zeros(different.shape).index_add(0, index, values)
    return different, total / torch.bincount(index, minlength=different.numel())
