"""What can only be seen across rows: repetitions, contradictions, overlap, balance, length bias."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rather.data.fields import text_of
from rather.data.identity import content_id, digest
from rather.data.refusal import Refused
from rather.data.types import Comparison, Source
from rather.stats import wilson

_PLACES = 100  # contradictions that are named; the rest are counted


def preferences(comparison: Comparison) -> set[tuple[int, int]]:
    """(winner, loser) of each edge, as digests of prompt and response."""
    keys = [digest([comparison.prompt, response]) for response in comparison.responses]
    return {(keys[edge.winner], keys[edge.loser]) for edge in comparison.edges}


def _pack(pair: tuple[int, int]) -> int:
    return pair[0] * 31 + pair[1] & 0xFFFFFFFFFFFFFFFF


@dataclass
class Census:
    """Counts over the good rows, filled one comparison at a time.

    What was seen is held as 64-bit digests and row numbers, about 400 bytes a row.

    Attributes:
        longer_wins, decided: edges whose winner is the longer text; edges whose texts differ in length.
        contradictions: edges whose reverse stands in an earlier row; ``places`` names (this row, earlier row) of some.
        lengths: characters, of prompts and of responses by their part in the preference.
        notes: what was inferred -> number of rows.
    """

    rows: int = 0
    edges: int = 0
    responses: int = 0
    desirable: int = 0
    undesirable: int = 0
    longer_wins: int = 0
    decided: int = 0
    contradictions: int = 0
    unsupported: int = 0
    repeating: int = 0
    formats: Counter[str] = field(default_factory=Counter)
    columns: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    lengths: dict[str, array[int]] = field(
        default_factory=lambda: {name: array("q") for name in ("prompt", "chosen", "rejected", "other")}
    )
    places: list[tuple[str, str]] = field(default_factory=list)
    _paths: list[str] = field(default_factory=list)
    _edges: dict[int, int] = field(default_factory=dict)
    _contents: dict[int, int] = field(default_factory=dict)
    _ids: dict[int, int] = field(default_factory=dict)

    def refuses(self, comparison: Comparison) -> Refused | None:
        """Why this row cannot follow those before it: its content, or its id, was there already."""
        if (before := self._contents.get(self._content(comparison))) is not None:
            return Refused("duplicate", f"the same comparison stands at {self._place(before)}")
        if (before := self._ids.get(digest(comparison.id))) is not None:
            what = f"the id {comparison.id!r} stands for another comparison at {self._place(before)}"
            return Refused("id-taken", f"{what}; ids must be unique (leave the column out and content decides)")
        return None

    @staticmethod
    def _content(comparison: Comparison) -> int:
        return int(content_id(comparison)[:16], 16)

    def _mark(self, source: Source | None) -> int:
        """A place as one number."""
        path, row = (source.path, source.row) if source else ("", self.rows + 1)
        if path not in self._paths[-1:]:
            self._paths.append(path)
        return len(self._paths) - 1 << 40 | row

    def _place(self, mark: int) -> str:
        return f"{self._paths[mark >> 40]}:{mark & (1 << 40) - 1}"

    def add(self, comparison: Comparison, form: str, notes: Sequence[str] = ()) -> None:
        """Count a good row."""
        mark = self._mark(comparison.source)
        self._contents[self._content(comparison)] = mark
        self._ids[digest(comparison.id)] = mark
        self.rows += 1
        self.formats[form] += 1
        self.notes.update(notes)
        self.edges += len(comparison.edges)
        self.responses += len(comparison.responses)
        self.desirable += sum(comparison.desirable)
        self.undesirable += sum(not wanted for wanted in comparison.desirable)
        self.columns.update(comparison.extras.keys())
        for winner, loser in sorted(preferences(comparison)):
            before = self._edges.get(_pack((loser, winner)))
            if before is not None:
                self.contradictions += 1
                if len(self.places) < _PLACES:
                    self.places.append((self._place(mark), self._place(before)))
            self._edges.setdefault(_pack((winner, loser)), mark)
        self._measure(comparison, form != "image pair" and not any(isinstance(r, bytes) for r in comparison.responses))

    def _measure(self, comparison: Comparison, written: bool) -> None:
        # A path says nothing about the length of what it leads to.
        prompt = text_of(comparison.prompt)
        texts = [text_of(response) if written else "" for response in comparison.responses]
        size = [len(text) for text in texts]
        self.lengths["prompt"].append(len(prompt))
        winners, losers = {e.winner for e in comparison.edges}, {e.loser for e in comparison.edges}
        for index, length in enumerate(size if written else ()):
            kind = "chosen" if index in winners else "rejected" if index in losers else "other"
            self.lengths[kind].append(length)
        if len(prompt) > 20 and texts and all(text.startswith(prompt) for text in texts):
            self.repeating += 1
        for edge in comparison.edges:
            if size[edge.winner] != size[edge.loser]:
                self.decided += 1
                self.longer_wins += size[edge.winner] > size[edge.loser]
            for name in ("probability", "margin"):
                self.columns[name] += getattr(edge, name) is not None
            self.columns["weight"] += edge.weight != 1.0
            if comparison.scores and comparison.scores[edge.winner] < comparison.scores[edge.loser]:
                self.unsupported += 1

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
        found["contradictions"] = self.contradictions
        if columns := {str(name): count for name, count in self.columns.items() if count}:
            found["optional_columns"] = columns
        if warnings := self.warnings():
            found["warnings"] = warnings
        return found

    def warnings(self) -> list[str]:
        """Sentences on what is usable but may not be what was meant."""
        found = [f"{count} rows: {note}" for note, count in self.notes.items()]
        if len(self.formats) > 1:
            parts = ", ".join(f"{name} ({count})" for name, count in self.formats.items())
            found.append(f"the data mixes formats: {parts}")
        if self.contradictions:
            found.append(
                f"{self.contradictions} preferences contradict an earlier row: first {' and '.join(self.places[0])}"
            )
        if self.repeating:
            found.append(
                f"{self.repeating} rows: every response begins with the whole prompt, which is then there twice"
            )
        if self.unsupported:
            found.append(f"{self.unsupported} preferences go against the scores beside them")
        marks = self.desirable + self.undesirable
        if marks and not (self.desirable and self.undesirable):
            found.append(
                f"all {marks} labels are {'desirable' if self.desirable else 'undesirable'}: there is no contrast"
            )
        low, high = wilson(self.longer_wins, self.decided)
        if self.decided >= 30 and (low > 0.6 or high < 0.4):
            share = self.longer_wins / self.decided
            found.append(f"the longer response wins {share:.0%} of preferences: length alone may be learned")
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
    """Held-out comparisons that are also trained on: ``same`` with all responses, ``prompts`` by prompt alone."""

    same: int
    prompts: int
    n: int
    first: tuple[str, ...] = ()


def overlap(train: Iterable[Comparison], held: Iterable[Comparison]) -> Overlap:
    """How many held-out comparisons are in the training data, whatever the order of their responses."""

    def keys(comparison: Comparison) -> tuple[int, frozenset[int]]:
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
