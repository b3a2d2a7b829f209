"""Which comparisons are in which optimizer step, rank and micro-batch.

The plan is a function of (seed, epoch, number of comparisons) for the order and of the comparisons' costs and buckets for
the cut, so a resumed run, and one on another number of ranks, has the same comparisons in the same steps.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class MicroBatch:
    """Indices of the comparisons of one forward pass.

    ``idle``: a repeat that counts for nothing; it is there so that all ranks run equally many passes.
    """

    indices: tuple[int, ...]
    idle: bool = False


@dataclass(frozen=True)
class Plan:
    """The order of training.

    Args:
        costs: cost of each comparison in the unit of ``max_cost``.
        batch_size: comparisons in a step over all ranks; the last step of an epoch may hold fewer.
        max_cost, max_count: bounds of a micro-batch; a single comparison may exceed ``max_cost``.
        buckets: of each comparison; a micro-batch holds comparisons of one only. ``None``: all may be together.
    """

    costs: Sequence[int]
    batch_size: int
    seed: int
    max_cost: int | None = None
    max_count: int | None = None
    buckets: Sequence[Hashable] | None = None

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(len(self.costs) / self.batch_size)

    def total_steps(self, epochs: float, max_steps: int | None) -> int:
        return max_steps if max_steps is not None else max(1, round(epochs * self.steps_per_epoch))

    def epoch(self, step: int) -> int:
        """The epoch of the 0-based step."""
        return step // self.steps_per_epoch

    def indices(self, step: int) -> tuple[int, ...]:
        """The comparisons of the 0-based step, in order."""
        order = epoch_order(self.seed, self.epoch(step), len(self.costs))
        start = step % self.steps_per_epoch * self.batch_size
        return tuple(int(index) for index in order[start : start + self.batch_size])

    def step(self, step: int, rank: int = 0, world: int = 1) -> list[MicroBatch]:
        """The micro-batches of one rank; equally many on each rank."""
        return share(self.indices(step), self.costs, rank, world, self.max_cost, self.max_count, self.buckets)


def epoch_order(seed: int, epoch: int, number: int) -> np.ndarray:
    """[number] a permutation that depends on nothing but its arguments."""
    return np.random.Generator(np.random.PCG64([seed, epoch])).permutation(number)


def share(
    indices: Sequence[int],
    costs: Sequence[int],
    rank: int,
    world: int,
    max_cost: int | None,
    max_count: int | None,
    buckets: Sequence[Hashable] | None = None,
) -> list[MicroBatch]:
    """One rank's micro-batches of ``indices``, filled up with idle ones to the number of the busiest rank."""
    size = math.ceil(len(indices) / world)
    cuts = [cut(indices[i * size : (i + 1) * size], costs, max_cost, max_count, buckets) for i in range(world)]
    most = max(len(batches) for batches in cuts)
    mine = [MicroBatch(tuple(batch)) for batch in cuts[rank]]
    if len(mine) < most:
        # The cheapest comparison of the step: an idle pass should cost as little as possible.
        cheapest = min(indices, key=lambda index: (costs[index], index))
        mine += [MicroBatch((cheapest,), idle=True)] * (most - len(mine))
    return mine


def cut(
    indices: Sequence[int],
    costs: Sequence[int],
    max_cost: int | None,
    max_count: int | None,
    buckets: Sequence[Hashable] | None = None,
) -> list[list[int]]:
    """Micro-batches of one bucket within both bounds, few of them: each comparison, costliest first, goes where it first
    fits."""
    batches: list[list[int]] = []
    loads: list[int] = []
    for index in sorted(indices, key=lambda i: (-costs[i], i)) if max_cost is not None else indices:
        for number, batch in enumerate(batches):
            fits = max_cost is None or loads[number] + costs[index] <= max_cost
            fits = fits and (buckets is None or buckets[batch[0]] == buckets[index])
            if fits and (max_count is None or len(batch) < max_count):
                batch.append(index)
                loads[number] += costs[index]
                break
        else:
            batches.append([index])
            loads.append(costs[index])
    return batches
