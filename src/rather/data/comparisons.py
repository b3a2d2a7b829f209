"""The usable comparisons of a source, with what was refused and what was counted on the way."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

from rather.data.identity import whole
from rather.data.refusal import Refusal
from rather.data.types import Comparison
from rather.data.validate import Census


class Comparisons(Sequence[Comparison]):
    """A sequence of comparisons; a large one is read from a memory-mapped file one at a time.

    Attributes:
        source: the name it was loaded from.
        refused: rows left out, in the order of the source.
        census: counts, contradictions and lengths of the good rows.
    """

    def __init__(self, items: Sequence[Comparison], source: str, refused: list[Refusal], census: Census) -> None:
        self._items, self.source, self.refused, self.census = items, source, refused, census
        self._fingerprint: str | None = None

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, index: int) -> Comparison: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Comparison]: ...
    def __getitem__(self, index: int | slice) -> Comparison | Sequence[Comparison]:
        return self.select(range(*index.indices(len(self)))) if isinstance(index, slice) else self._items[index]

    def __iter__(self) -> Iterator[Comparison]:
        return iter(self._items)

    def select(self, indices: Iterable[int]) -> Comparisons:
        """The comparisons at these positions, in this order, read when they are asked for; counts are taken anew."""
        chosen = Selection(self._items, [range(len(self))[index] for index in indices])
        census = Census()
        for item in chosen:
            census.add(item, "selection" if len(self.census.formats) != 1 else next(iter(self.census.formats)))
        return Comparisons(chosen, self.source, [], census)

    @property
    def fingerprint(self) -> str:
        """Hash of everything the comparisons say, in their order; where they were read from does not matter."""
        if self._fingerprint is None:
            hasher = hashlib.sha256()
            for item in self._items:
                hasher.update(whole(item))
            self._fingerprint = hasher.hexdigest()[:20]
        return self._fingerprint

    @property
    def summary(self) -> dict[str, Any]:
        """Counts as plain values: those of the census, and refusals by code with a reason and the first places."""
        by_code: dict[str, dict[str, Any]] = {}
        for refusal in self.refused:
            entry = by_code.setdefault(refusal.code, {"count": 0, "reason": refusal.reason, "first": []})
            entry["count"] += 1
            if len(entry["first"]) < 3:
                entry["first"].append(str(refusal.source))
        return {**self.census.summary(), "refused": len(self.refused), "refused_by_reason": by_code}

    @property
    def warnings(self) -> list[str]:
        """Sentences on what is usable but may not be what was meant."""
        return self.census.warnings()


class Selection(Sequence[Comparison]):
    """Some of the items of a sequence, looked up when asked for."""

    def __init__(self, items: Sequence[Comparison], indices: Sequence[int]) -> None:
        self._items, self._indices = items, indices

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, index: int) -> Comparison: ...
    @overload
    def __getitem__(self, index: slice) -> Selection: ...
    def __getitem__(self, index: int | slice) -> Comparison | Selection:
        found = self._indices[index]
        return self._items[found] if isinstance(found, int) else Selection(self._items, found)
