"""How right annotations are: micro precision, recall and F1 of codes, sub-codes and spans (arXiv 2603.00025).

Codes and sub-codes are sets of labels of a message. Spans are matched one to one, greedily in order: two match when the
words of one are all among those of the other, or when they share at least 60 % of their words (Jaccard, as multisets). A
span without words matches nothing (in the released code an empty one matches everything).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rather.data.annotations import Annotation

JACCARD = 0.6


@dataclass(frozen=True)
class Tally:
    """Counts of what is right, what was predicted and what is gold; sums of tallies are pooled (micro)."""

    right: int = 0
    predicted: int = 0
    gold: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.right + other.right, self.predicted + other.predicted, self.gold + other.gold)

    @property
    def precision(self) -> float:
        return self.right / self.predicted if self.predicted else 0.0

    @property
    def recall(self) -> float:
        return self.right / self.gold if self.gold else 0.0

    @property
    def f1(self) -> float:
        """2 right / (predicted + gold); 0 when there is neither."""
        return 2 * self.right / (self.predicted + self.gold) if self.predicted + self.gold else 0.0


def tally(gold: Sequence[Annotation], predicted: Sequence[Annotation]) -> dict[str, Tally]:
    """``codes``, ``sub-codes`` and ``spans`` of one message."""
    return {
        "codes": _of_sets({a.code for a in gold}, {a.code for a in predicted}),
        "sub-codes": _of_sets({(a.code, a.subcode) for a in gold}, {(a.code, a.subcode) for a in predicted}),
        "spans": Tally(_matches([a.span for a in gold], [a.span for a in predicted]), len(predicted), len(gold)),
    }


def micro(pairs: Iterable[tuple[Sequence[Annotation], Sequence[Annotation]]]) -> dict[str, Tally]:
    """Pooled over (gold, predicted) lists."""
    total: dict[str, Tally] = {}
    for gold, predicted in pairs:
        for name, found in tally(gold, predicted).items():
            total[name] = total.get(name, Tally()) + found
    return total


def _of_sets(gold: set[object], predicted: set[object]) -> Tally:
    return Tally(len(gold & predicted), len(predicted), len(gold))


def _matches(gold: Sequence[str], predicted: Sequence[str]) -> int:
    left = list(gold)
    found = 0
    for span in predicted:
        hit = next((other for other in left if same_span(span, other)), None)
        if hit is not None:
            left.remove(hit)
            found += 1
    return found


def same_span(one: str, other: str) -> bool:
    """Whether two spans count as the same passage."""
    a, b = (Counter(text.casefold().split()) for text in (one, other))
    shared = (a & b).total()
    if not shared:
        return False
    return shared in (a.total(), b.total()) or shared >= JACCARD * (a | b).total()
