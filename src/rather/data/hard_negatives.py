"""Minimal wrong versions of annotations, as a model that confuses labels would write them (arXiv 2603.00025).

Each is the gold list with one or two labels exchanged, an annotation left out, or a spurious one added. Which labels take
the place of which is drawn in proportion to how often a model confused them.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from rather.data.annotations import Annotation, Codebook, dump

Strategy = Literal["code", "subcode", "both", "missing", "extra", "spurious"]

STRATEGIES: Mapping[Strategy, float] = {"code": 0.25, "subcode": 0.35, "both": 0.20, "missing": 0.08, "extra": 0.12}
"""How often each is drawn; ``spurious`` is what is done to an empty list."""

_TRIES = 10  # strategies drawn before a list is given up
_SECOND_CHANGE = 0.6  # probability of the second change of "both"


@dataclass(frozen=True)
class Confusion:
    """How often a model took one label for another.

    Attributes:
        codes, subcodes: gold label -> label in its place -> count. Of equal labels the count is not used.
    """

    codes: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    subcodes: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @staticmethod
    def count(pairs: Iterable[tuple[Sequence[Annotation], Sequence[Annotation]]]) -> Confusion:
        """From (gold, predicted) lists, such as a model's answers to its training prompts.

        Annotations of the same span are compared, then what is left in order.
        """
        codes: dict[str, Counter[str]] = {}
        subcodes: dict[str, Counter[str]] = {}
        for gold, predicted in pairs:
            for a, b in _matched(gold, predicted):
                codes.setdefault(a.code, Counter())[b.code] += 1
                subcodes.setdefault(a.subcode, Counter())[b.subcode] += 1
        return Confusion(codes, subcodes)


def _matched(gold: Sequence[Annotation], predicted: Sequence[Annotation]) -> list[tuple[Annotation, Annotation]]:
    left, found, rest = list(predicted), [], []
    for one in gold:
        same = next((other for other in left if other.span == one.span), None)
        if same is None:
            rest.append(one)
        else:
            left.remove(same)
            found.append((one, same))
    return [*found, *zip(rest, left, strict=False)]


class HardNegatives:
    """Draws wrong versions of gold lists.

    Args:
        confusion: of the model; a label that it never confused keeps its place under the strategies that need one.
        strategies: how often each is drawn.
    """

    def __init__(
        self, codebook: Codebook, confusion: Confusion, strategies: Mapping[Strategy, float] = STRATEGIES
    ) -> None:
        self.codebook, self.confusion, self.strategies = codebook, confusion, dict(strategies)

    def draw(
        self, gold: Sequence[Annotation], draws: random.Random, text: str = ""
    ) -> tuple[list[Annotation], Strategy] | None:
        """A list whose set of annotations is not that of ``gold``, and how it was made; ``gold`` is left as it is.

        Args:
            text: what is annotated; the first half of it gets a label where gold is empty.

        Returns:
            ``None`` when ten strategies drawn in a row change nothing, or gold and text are empty.
        """
        if not gold:
            half = _first_half(text)
            return ([Annotation(*draws.choice(list(self.codebook.pairs())), half)], "spurious") if half else None
        names, weights = list(self.strategies), list(self.strategies.values())
        for _ in range(_TRIES):
            strategy = draws.choices(names, weights)[0]
            changed = self._apply(strategy, list(gold), draws)
            if set(changed) != set(gold):
                return changed, strategy
        return None

    def _apply(self, strategy: Strategy, gold: list[Annotation], draws: random.Random) -> list[Annotation]:
        if strategy == "code":
            return self._other_code(gold, draws)
        if strategy == "subcode":
            return self._other_subcode(gold, draws)
        if strategy == "both":
            changed = self._other_code(gold, draws)
            if changed == gold or draws.random() < _SECOND_CHANGE:
                return self._other_subcode(changed, draws)
            return changed
        if strategy == "missing":
            at = draws.randrange(len(gold))
            return gold[:at] + gold[at + 1 :] if len(gold) > 1 else gold
        return self._extra(gold, draws)

    def _other_code(self, gold: list[Annotation], draws: random.Random) -> list[Annotation]:
        """One annotation under a confused code: with its sub-code where that is valid, else with any valid one."""
        for at in draws.sample(range(len(gold)), len(gold)):
            code = _confused(self.confusion.codes.get(gold[at].code, {}), gold[at].code, self.codebook.subcodes, draws)
            if code is None:
                continue
            kept = self.codebook.valid(code, gold[at].subcode)
            subcode = gold[at].subcode if kept else draws.choice(list(self.codebook.subcodes[code]))
            return [*gold[:at], Annotation(code, subcode, gold[at].span), *gold[at + 1 :]]
        return gold

    def _other_subcode(self, gold: list[Annotation], draws: random.Random) -> list[Annotation]:
        """One annotation under a confused sub-code that its code has."""
        for at in draws.sample(range(len(gold)), len(gold)):
            counts = self.confusion.subcodes.get(gold[at].subcode, {})
            allowed = self.codebook.subcodes.get(gold[at].code, ())
            subcode = _confused(counts, gold[at].subcode, allowed, draws)
            if subcode is not None:
                return [*gold[:at], Annotation(gold[at].code, subcode, gold[at].span), *gold[at + 1 :]]
        return gold

    def _extra(self, gold: list[Annotation], draws: random.Random) -> list[Annotation]:
        """A confused code on the first half of an existing span."""
        based_on = draws.choice(gold)
        code = _confused(self.confusion.codes.get(based_on.code, {}), based_on.code, self.codebook.subcodes, draws)
        half = _first_half(based_on.span)
        if code is None or not half:
            return gold
        return [*gold, Annotation(code, draws.choice(list(self.codebook.subcodes[code])), half)]


def _first_half(text: str) -> str:
    words = text.split()
    return " ".join(words[: (len(words) + 1) // 2])


def _confused(counts: Mapping[str, float], label: str, allowed: Iterable[str], draws: random.Random) -> str | None:
    """Another of the ``allowed`` labels, in proportion to its count; ``None`` when none was counted."""
    allowed = set(allowed)
    others = [name for name in sorted(counts) if name != label and name in allowed and counts[name] > 0]
    return draws.choices(others, [counts[name] for name in others])[0] if others else None


@dataclass(frozen=True)
class WrittenPair:
    """Gold and wrong annotations as texts, and how the wrong ones were made."""

    chosen: str
    rejected: str
    strategy: Strategy


def written_pair(
    gold: Sequence[Annotation], negatives: HardNegatives, draws: random.Random, text: str = ""
) -> WrittenPair | None:
    """Both texts in the same format; ``None`` where no wrong version was found (see ``HardNegatives.draw``)."""
    drawn = negatives.draw(gold, draws, text)
    if drawn is None:
        return None
    changed, strategy = drawn
    return WrittenPair(dump(gold), dump(changed), strategy)
