"""What is watched while training: numbers that are not finite, gradients that are dead, likelihood that is
displaced."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

DEAD = (
    "the gradient is exactly zero at step {step}: nothing is learned from it. Likely: chosen and rejected answers are "
    "the same, every weight is zero, the margin is already beyond what the loss asks for, or nothing that the loss "
    "depends on is trained"
)
DISPLACED = (
    "chosen answers become less likely (mean score {first:.1f} to {last:.1f}) while the margin grows: the probability "
    "goes to answers in neither column. Try an SFT term (--sft 0.1), a larger --beta, a lower --learning-rate or "
    "fewer steps"
)


class Watch:
    """Notices of a run, each given once."""

    def __init__(self, window: int = 10) -> None:
        self.notices: dict[str, str] = {}
        self.first: list[tuple[float, float]] = []
        self.last: deque[tuple[float, float]] = deque(maxlen=window)
        self.window = window

    def gradient(self, step: int, norm: float) -> str | None:
        """A notice when the gradient of a step is exactly zero."""
        return self._once("dead", DEAD.format(step=step)) if norm == 0.0 else None

    def row(self, row: Mapping[str, Any]) -> str | None:
        """A notice when chosen answers lose likelihood while margins grow.

        Compared are the first rows with the latest ones, ``window`` each; the fall has to exceed 1% and half a nat,
        and twice what such means vary by within the first window.
        """
        chosen, margin = row.get("logps/chosen"), row.get("rewards/margins")
        if chosen is None or margin is None:
            return None
        if len(self.first) < self.window:
            self.first.append((chosen, margin))
            return None
        self.last.append((chosen, margin))
        if len(self.last) < self.window:
            return None
        before, after = _mean(self.first, 0), _mean(self.last, 0)
        spread = (sum((c - before) ** 2 for c, _ in self.first) / (self.window - 1)) ** 0.5
        fall = max(0.5, 0.01 * abs(before), 2 * spread * (2 / self.window) ** 0.5)
        if before - after > fall and _mean(self.last, 1) > _mean(self.first, 1):
            return self._once("displaced", DISPLACED.format(first=before, last=after))
        return None

    def _once(self, kind: str, text: str) -> str | None:
        if kind in self.notices:
            return None
        self.notices[kind] = text
        return text

    def state(self) -> dict[str, Any]:
        return {"notices": self.notices, "first": self.first, "last": list(self.last)}

    def load(self, state: Mapping[str, Any]) -> None:
        self.notices = dict(state["notices"])
        self.first = [(float(c), float(m)) for c, m in state["first"]]
        self.last.extend((float(c), float(m)) for c, m in state["last"])


def _mean(rows: Any, column: int) -> float:
    values = [row[column] for row in rows]
    return sum(values) / len(values)
