"""What can only be seen across rows: repetitions, contradictions, overlap, balance, length bias."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from rather.data.fields import text_of
from rather.data.types import Comparison, Edge, Source
from rather.stats import wilson


def digest(value: Any) -> bytes:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=repr)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).digest()


def preferences(comparison: Comparison) -> set[tuple[bytes, bytes, bytes]]:
    """(prompt, winner, loser) of each edge, as digests."""
    prompt, responses = digest(comparison.prompt), [digest(response) for response in comparison.responses]
    return {(prompt, responses[edge.winner], responses[edge.loser]) for edge in comparison.edges}


def content(comparison: Comparison) -> bytes:
    """Digest of what a comparison says, whatever its id and its source."""
    edges = [(edge.winner, edge.loser) for edge in comparison.edges]
    return digest([comparison.prompt, list(comparison.responses), edges, list(comparison.desirable)])


@dataclass
class Census:
    """Counts over the good rows, filled one comparison at a time.

    Attributes:
        formats: how many rows were read as which format.
        longer_wins, decided: edges whose winner is the longer text; edges whose texts differ in length.
        contradictions: places where the reverse of an earlier preference stands, with the earlier place.
    """

    rows: int = 0
    edges: int = 0
    responses: int = 0
    desirable: int = 0
    undesirable: int = 0
    longer_wins: int = 0
    decided: int = 0
    formats: Counter[str] = field(default_factory=Counter)
    optional: Counter[str] = field(default_factory=Counter)
    lengths: dict[str, list[int]] = field(
        default_factory=lambda: {"prompt": [], "chosen": [], "rejected": [], "other": []}
    )
    contradictions: list[tuple[Source | None, Source | None]] = field(default_factory=list)
    _seen: dict[tuple[bytes, bytes, bytes], Source | None] = field(default_factory=dict)
    _contents: dict[bytes, Source | None] = field(default_factory=dict)
    _ids: dict[str, tuple[bytes, Source | None]] = field(default_factory=dict)

    def earlier(self, comparison: Comparison) -> Source | None | bool:
        """Where the same comparison stood before; ``False`` when it is new."""
        key = content(comparison)
        return self._contents[key] if key in self._contents else False

    def id_taken(self, comparison: Comparison) -> Source | None | bool:
        """Where this id stood for something else; ``False`` when it is free."""
        found = self._ids.get(comparison.id)
        return found[1] if found is not None else False

    def add(self, comparison: Comparison, form: str) -> None:
        key = content(comparison)
        self._contents[key] = comparison.source
        self._ids[comparison.id] = (key, comparison.source)
        self.rows += 1
        self.formats[form] += 1
        self.edges += len(comparison.edges)
        self.responses += len(comparison.responses)
        self.desirable += sum(comparison.desirable)
        self.undesirable += sum(not mark for mark in comparison.desirable)
        for prompt, winner, loser in sorted(preferences(comparison)):
            if (prompt, loser, winner) in self._seen:
                self.contradictions.append((comparison.source, self._seen[prompt, loser, winner]))
            self._seen.setdefault((prompt, winner, loser), comparison.source)
        self._measure(comparison)

    def _measure(self, comparison: Comparison) -> None:
        size = [len(text_of(response)) if not isinstance(response, bytes) else 0 for response in comparison.responses]
        self.lengths["prompt"].append(len(text_of(comparison.prompt)))
        winners, losers = {e.winner for e in comparison.edges}, {e.loser for e in comparison.edges}
        for index, length in enumerate(size):
            kind = "chosen" if index in winners else "rejected" if index in losers else "other"
            self.lengths[kind].append(length)
        for edge in comparison.edges:
            if size[edge.winner] != size[edge.loser]:
                self.decided += 1
                self.longer_wins += size[edge.winner] > size[edge.loser]
            for name in ("probability", "margin"):
                self.optional[name] += getattr(edge, name) is not None
            self.optional["weight"] += edge.weight != Edge(0, 1).weight

    def summary(self) -> dict[str, Any]:
        """Plain values for ``--json`` and the run's record."""
        found: dict[str, Any] = {"format": " + ".join(self.formats), "rows": self.rows, "preferences": self.edges}
        if self.desirable or self.undesirable:
            found["labels"] = {"desirable": self.desirable, "undesirable": self.undesirable}
        if self.decided:
            share = self.longer_wins / self.decided
            found["length_bias"] = {
                "longer_wins": share,
                "interval": list(wilson(self.longer_wins, self.decided)),
                "n": self.decided,
            }
        found["characters"] = {name: percentiles(values) for name, values in self.lengths.items() if values}
        found["contradictions"] = len(self.contradictions)
        columns = {name: count for name, count in self.optional.items() if count}
        if columns:
            found["optional"] = columns
        return found


def percentiles(values: Iterable[int]) -> dict[str, float]:
    """Mean, median, 90th and 99th percentile and maximum."""
    import numpy as np

    array = np.asarray(list(values), dtype=float)
    middle, high, higher = np.percentile(array, [50, 90, 99])
    return {
        "mean": float(array.mean()),
        "p50": float(middle),
        "p90": float(high),
        "p99": float(higher),
        "max": float(array.max()),
    }


@dataclass(frozen=True)
class Overlap:
    """Held-out comparisons that are also trained on: ``same`` with all responses, ``prompts`` by prompt (these included)."""

    same: int
    prompts: int
    n: int
    first: tuple[str, ...] = ()


def overlap(train: Iterable[Comparison], held: Iterable[Comparison]) -> Overlap:
    """How many held-out comparisons are in the training data, whatever the order of their responses."""

    def keys(comparison: Comparison) -> tuple[bytes, frozenset[bytes]]:
        return digest(comparison.prompt), frozenset(digest(response) for response in comparison.responses)

    known = {keys(comparison) for comparison in train}
    prompts = {prompt for prompt, _ in known}
    same = shared = n = 0
    first: list[str] = []
    for comparison in held:
        n += 1
        key = keys(comparison)
        shared += key[0] in prompts
        if key in known:
            same += 1
            first.append(str(comparison.source or comparison.id))
    return Overlap(same, shared, n, tuple(first[:3]))
