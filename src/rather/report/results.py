"""Held-out numbers before and after: the before/after table and the verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rather.report.numbers import number, percent, shown


@dataclass(frozen=True)
class Estimate:
    """A number with its 95% interval, when there is one."""

    value: float
    low: float | None = None
    high: float | None = None

    def text(self, share: bool = False) -> str:
        """``72.4%`` or ``0.724``, without the interval."""
        return percent(self.value) if share else shown(self.value)

    def interval(self, share: bool = False) -> str:
        """``67.9 to 76.6%``; empty without an interval."""
        if self.low is None or self.high is None:
            return ""
        if share:
            return f"{percent(self.low).rstrip('%')} to {percent(self.high)}"
        return f"{shown(self.low)} to {shown(self.high)}"


@dataclass(frozen=True)
class Row:
    """A line of the before/after table.

    Attributes:
        better: +1 when more is better, -1 when less is, 0 when neither.
        paired: after minus before, where the same things were looked at twice; its interval is then the narrower one.
    """

    key: str
    label: str
    before: Estimate | None
    after: Estimate | None
    share: bool = False
    better: int = 0
    note: str = ""
    paired: Estimate | None = None

    @property
    def change(self) -> str:
        """After minus before; shares in percentage points."""
        if self.before is None or self.after is None:
            return ""
        gain = self.after.value - self.before.value
        if not math.isfinite(gain):
            return ""
        sign = "+" if gain > 0 else ""
        if not self.share:
            return sign + shown(gain)
        within = f" ({self.paired.interval(share=True).replace('%', '')})" if self.paired else ""
        return f"{sign}{percent(gain).rstrip('%')} points{within}"

    @property
    def apart(self) -> int:
        """+1 or -1 when after is above or below before beyond chance, else 0: the interval of the paired change leaves
        out zero, or, without one, the two intervals do not touch."""
        if self.paired is not None:
            low, high = _bounds(self.paired)
            return 1 if low > 0 else -1 if high < 0 else 0
        before, after = self.before, self.after
        if before is None or after is None:
            return 0
        before_low, before_high = _bounds(before)
        after_low, after_high = _bounds(after)
        return 1 if after_low > before_high else -1 if after_high < before_low else 0


LABELS: dict[str, tuple[str, bool, int]] = {
    "accuracy": ("Ranking accuracy (implicit reward)", True, 1),
    "accuracy/rewards": ("Ranking accuracy (implicit reward)", True, 1),
    "rewards/accuracies": ("Ranking accuracy (implicit reward)", True, 1),
    "accuracy/logps": ("Ranking accuracy (log-probability)", True, 1),
    "accuracy/logps_mean": ("Ranking accuracy (mean log-probability)", True, 1),
    "win_rate": ("Win rate", True, 1),
    "loss": ("Loss", False, -1),
    "log_loss": ("Log-loss of the order", False, -1),
    "calibration_error": ("Calibration error", False, -1),
    "margins": ("Reward margin", False, 1),
    "rewards/margins": ("Reward margin", False, 1),
    "rewards/chosen": ("Implicit reward, chosen", False, 0),
    "rewards/rejected": ("Implicit reward, rejected", False, 0),
    "logps/chosen": ("Log-probability, chosen", False, 0),
    "logps/rejected": ("Log-probability, rejected", False, 0),
    "kl": ("KL divergence (reference to policy), estimate", False, 0),
    "length/chosen": ("Length of chosen answers, tokens", False, 0),
    "length/rejected": ("Length of rejected answers, tokens", False, 0),
    "length/sampled": ("Length of sampled answers, tokens", False, 0),
    "length": ("Length of answers, tokens", False, 0),
}
OF_DATA = ("length/chosen", "length/rejected")
"""Numbers of the data and not of the model: told with the data."""

RANKING = ("accuracy", "accuracy/rewards", "rewards/accuracies")


def estimate(table: Mapping[str, Any], key: str) -> Estimate | None:
    """The entry ``key`` with its interval.

    An entry is a number, with ``key/interval`` or ``key_interval`` beside it, or an object with ``value`` (or
    ``mean``, ``rate``) and ``interval``.
    """
    entry = table.get(key)
    bounds: Any = next((table[name] for name in (f"{key}/interval", f"{key}_interval") if name in table), None)
    if isinstance(entry, Mapping):
        bounds = next((entry[name] for name in ("interval", "ci", "ci95") if name in entry), bounds)
        entry = next((entry[name] for name in ("value", "mean", "rate", "estimate") if name in entry), None)
    elif isinstance(entry, list | tuple) and len(entry) == 3:
        entry, bounds = entry[0], entry[1:]
    value = number(entry)
    if value is None:
        return None
    if isinstance(bounds, list | tuple) and len(bounds) == 2:
        low, high = number(bounds[0]), number(bounds[1])
        if low is not None and high is not None and math.isfinite(low) and math.isfinite(high):
            return Estimate(value, low, high)
    return Estimate(value)


def rows(evaluation: Mapping[str, Any], kind: str = "") -> list[Row]:
    """The before/after table: known metrics first, then whatever else was measured, then the world's pass rates.

    Args:
        kind: of the model, for the words.
    """
    before, after = _table(evaluation, "before"), _table(evaluation, "after")
    present = [*LABELS, *(key for key in [*before, *after] if key not in LABELS)]
    found = []
    for key in dict.fromkeys(present):
        if key.endswith(("interval", "_ci")) or key in ("n", "pairs"):
            continue
        left, right = estimate(before, key), estimate(after, key)
        if key in OF_DATA and left == right:
            continue
        if left or right:
            label, share, better = LABELS.get(key) or _by_judge(key)
            found.append(Row(key, worded(label, kind), left, right, share, better))
    return found + world_rows(evaluation)


def _by_judge(key: str) -> tuple[str, bool, int]:
    """Label, whether it is a share and what is better, of a judge's numbers; another key is its own label."""
    word, _, name = key.partition("/")
    known = {"judged": (f"Score of drawn images, {name}", False, 1), "wins": (f"Wins over before, {name}", True, 1)}
    return known.get(word, (key, False, 0))


_OF_DENOISERS = {"log-probability": "score", "Log-probability": "Score"}
_WORDS = {
    "reward": {" (implicit reward)": "", "Implicit reward,": "Reward,"},
    "diffusion": _OF_DENOISERS,
    "flow": _OF_DENOISERS,
}
"""What is said otherwise of a kind of model: rewards that are its own, scores that are errors and no likelihoods."""


def worded(label: str, kind: str) -> str:
    """A label in the words that are right for a kind of model."""
    for general, own in _WORDS.get(kind, {}).items():
        label = label.replace(general, own)
    return label


def world_rows(evaluation: Mapping[str, Any]) -> list[Row]:
    """Pass rates of answers that a program checked: overall, then per kind of check."""
    world = _table(evaluation, "world")
    before, after = world.get("before"), world.get("after")
    if isinstance(before, Mapping) and isinstance(after, Mapping) and not _is_estimate(before):
        names = [key for key in dict.fromkeys([*before, *after]) if not key.endswith("interval") and key != "n"]
        pairs = [(name, estimate(before, name), estimate(after, name), _paired(after.get(name))) for name in names]
    else:
        pairs = [("pass_rate", estimate(world, "before"), estimate(world, "after"), None)]
    found = []
    for name, left, right, paired in pairs:
        if left or right:
            whole = name in ("pass_rate", "rate", "pass", "all", "overall")
            label = "World pass rate" if whole else f"World pass rate: {name}"
            found.append(Row(f"world/{name}", label, left, right, True, 1, paired=paired))
    return found


def _paired(entry: Any) -> Estimate | None:
    return estimate(entry, "change") if isinstance(entry, Mapping) else None


def count(evaluation: Mapping[str, Any]) -> int | None:
    """Held-out pairs scored; comparisons where the data has no pairs."""
    for split in ("after", "before"):
        for key in ("pairs", "n"):
            value = number(_table(evaluation, split).get(key))
            if value:
                return int(value)
    return None


def ranking(table: list[Row]) -> Row | None:
    """The row of the implicit reward's ranking accuracy."""
    return next((row for key in RANKING for row in table if row.key == key), None)


def world(table: list[Row]) -> Row | None:
    """The row of the world's overall pass rate."""
    return next((row for row in table if row.key.startswith("world/")), None)


def _table(evaluation: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = evaluation.get(key)
    return value if isinstance(value, Mapping) else {}


def _is_estimate(entry: Mapping[str, Any]) -> bool:
    return any(key in entry for key in ("value", "mean", "rate"))


def _bounds(entry: Estimate) -> tuple[float, float]:
    if entry.low is None or entry.high is None:
        return entry.value, entry.value
    return entry.low, entry.high
