"""Metrics as sums and counts, reduced once when they are written."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rather.objectives.outcome import Outcome
from rather.objectives.scores import Layout

PAIRED = (
    "rewards/chosen",
    "rewards/rejected",
    "rewards/margins",
    "rewards/accuracies",
    "logps/chosen",
    "logps/rejected",
    "length/chosen",
    "length/rejected",
    "frac_in_U",
)


OF_LIKELIHOOD = frozenset(
    {"logps/chosen", "logps/rejected", "length/chosen", "length/rejected", "accuracy/logps", "accuracy/logps_mean"}
)
"""What is said of scores that are log-probabilities (or their surrogate) of the elements of a response."""


def hidden(provides: frozenset[str]) -> frozenset[str]:
    """Metrics that mean nothing for a policy: for a reward model those of likelihood."""
    return OF_LIKELIHOOD if provides & {"reward", "embedding"} else frozenset()


def ends(layout: Layout) -> tuple[Tensor, Tensor]:
    """Response indices of the chosen and of the rejected ends: those of the edges, or the marked ones without edges.

    With edges both are [K], so that a winner over three others counts three times and margins are differences of
    means.
    """
    if layout.edges:
        return layout.winner, layout.loser
    return torch.nonzero(layout.desirable > 0).flatten(), torch.nonzero(layout.desirable < 0).flatten()


def right(difference: Tensor) -> Tensor:
    """1 where positive, 1/2 at a tie, 0 where negative."""
    return ((difference > 0).double() + (difference == 0).double() / 2).to(difference.device)


def sums(outcome: Outcome, layout: Layout) -> Tensor:
    """[M, 2] float64 (sum, count) of each metric over a micro-batch, in the order of ``names``; detached.

    A margin is that of an edge. Without edges an answer is ranked right when the sign of its reward is its mark's.
    ``frac_in_U`` is the share of edges in ``Outcome.undesirable``; nothing counts for it without a reference.
    """
    chosen, rejected = ends(layout)
    rewards, logps = outcome.rewards.detach().double(), outcome.logps.detach().double()
    lengths = layout.lengths.double()
    if layout.edges:
        margins = outcome.margins.detach().double()
        correct = right(margins)
    else:
        margins = rewards.new_zeros(0)
        correct = torch.cat([right(rewards[chosen]), right(-rewards[rejected])])
    in_u = rewards.new_zeros(0) if outcome.undesirable is None else outcome.undesirable.to(rewards)
    columns = (
        rewards[chosen],
        rewards[rejected],
        margins,
        correct,
        logps[chosen],
        logps[rejected],
        lengths[chosen],
        lengths[rejected],
        in_u,
        *(values.detach().to(rewards).flatten() for values in outcome.logged.values()),
    )
    return torch.stack([torch.stack([c.sum(), c.new_tensor(float(c.numel()))]) for c in columns])


def names(outcome: Outcome) -> tuple[str, ...]:
    """The metrics of every objective, then this one's own."""
    return (*PAIRED, *outcome.logged)


def means(table: Tensor, names: Sequence[str]) -> dict[str, float]:
    """Means of a reduced table; a metric that nothing counted for is left out."""
    return {name: total / number for name, (total, number) in zip(names, table.tolist(), strict=True) if number}


class MetricsFile:
    """``metrics.jsonl``: one row per logged step, appended and flushed; cut back when a run resumes."""

    def __init__(self, path: Path, *, write: bool) -> None:
        self.path, self.write = path, write

    def append(self, row: Mapping[str, Any]) -> None:
        if not self.write:
            return
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({key: finite(value) for key, value in row.items()}) + "\n")

    def rows(self) -> list[dict[str, Any]]:
        return list(_whole_rows(self.path.read_text(encoding="utf-8").splitlines())) if self.path.exists() else []

    def cut(self, step: int) -> None:
        """Drop the rows after ``step``: they belong to steps that will be taken again."""
        if not self.write or not self.path.exists():
            return
        kept = [row for row in self.rows() if row.get("step", 0) <= step]
        partial = self.path.with_name(self.path.name + ".partial")
        partial.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
        os.replace(partial, self.path)


def _whole_rows(lines: Iterable[str]) -> Iterable[dict[str, Any]]:
    for line in lines:
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue  # a line that was being written when the process was killed
        if isinstance(row, dict):
            yield row


def finite(value: Any) -> Any:
    """JSON has no NaN; the report reads ``null`` as one."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
