"""Constraints that tell two texts apart: one text obeys, the other does not.

What a family offers is made from the two texts without regard to which is which, and the checkers decide who obeys. So
when it is a fair coin which of the two a pair of prompts is built for, the prompts alone say nothing: exchanging the texts
exchanges the labels.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from rather.worlds.instructions.checkers.base import Args
from rather.worlds.instructions.checkers.registry import checker, compatible
from rather.worlds.instructions.text import folded_words, lines, paragraphs, sentences, words

_SHORTEST_WORD = 4  # letters of a keyword; shorter ones are mostly function words
_OFFERS = 3  # keywords offered of either text


@dataclass(frozen=True)
class Constraint:
    """A checker with its arguments."""

    checker: str
    args: Args = field(default_factory=dict)

    def obeyed(self, text: str) -> bool:
        return bool(checker(self.checker).check(self.args, text))

    def told(self, rng: random.Random) -> str:
        """The instruction, in one of its wordings."""
        one = checker(self.checker)
        return one.describe(self.args, "train", rng.randrange(len(one.train)))


Family = Callable[[random.Random, tuple[str, str]], list[Constraint]]


def _length(rng: random.Random, texts: tuple[str, str]) -> list[Constraint]:
    low, high = sorted(len(words(text)) for text in texts)
    if low == high:
        return []
    found = []
    for n in (rng.randrange(low, high) for _ in range(2)):
        found += [Constraint("max_words", {"n": n}), Constraint("min_words", {"n": n + 1})]
    return found


def _number_of(name: str, count: Callable[[str], Sequence[str]]) -> Family:
    """Exactly as many as either text has."""

    def family(rng: random.Random, texts: tuple[str, str]) -> list[Constraint]:
        return [Constraint(name, {"n": n}) for n in sorted({len(count(text)) for text in texts}) if n]

    return family


def _keyword(rng: random.Random, texts: tuple[str, str]) -> list[Constraint]:
    found = []
    bags = [dict.fromkeys(word for word in folded_words(text) if len(word) >= _SHORTEST_WORD) for text in texts]
    for own, other in (bags, bags[::-1]):
        only = [word for word in own if word not in other]
        for word in rng.sample(only, min(_OFFERS, len(only))):
            found += [Constraint("contains", {"word": word}), Constraint("avoid", {"words": [word]})]
    return found


def _beginning(rng: random.Random, texts: tuple[str, str]) -> list[Constraint]:
    return [Constraint("starts_with", {"word": found[0]}) for text in texts if (found := words(text))]


def _end(rng: random.Random, texts: tuple[str, str]) -> list[Constraint]:
    return [Constraint("ends_with", {"phrase": " ".join(found[-2:])}) for text in texts if (found := words(text))]


def _pair(*names: str) -> Family:
    """Constraints without arguments that contradict each other."""

    def family(rng: random.Random, texts: tuple[str, str]) -> list[Constraint]:
        return [Constraint(name) for name in names]

    return family


FAMILIES: Mapping[str, Family] = {
    "words": _length,
    "keyword": _keyword,
    "sentences": _number_of("sentences", sentences),
    "paragraphs": _number_of("paragraphs", paragraphs),
    "lines": _number_of("lines", lines),
    "beginning": _beginning,
    "end": _end,
    "digits": _pair("has_number", "no_digits"),
    "question": _pair("ends_with_question", "no_question"),
    "exclamation": _pair("ends_with_exclamation", "no_exclamation"),
}
"""Name -> (rng, two texts) -> constraints; those that one of the texts alone obeys are used."""


@dataclass(frozen=True)
class Offer:
    """What a family offers for two texts: ``own[i]`` are constraints that text i obeys and the other breaks."""

    family: str
    own: tuple[tuple[Constraint, ...], tuple[Constraint, ...]]


def offers(rng: random.Random, texts: tuple[str, str]) -> list[Offer]:
    """Every family that has constraints on either side, in an order that is drawn."""
    found = []
    for name, family in FAMILIES.items():
        own: tuple[list[Constraint], list[Constraint]] = ([], [])
        for one in family(rng, texts):
            obeyed = [one.obeyed(text) for text in texts]
            if sum(obeyed) == 1:
                own[obeyed.index(True)].append(one)
        if own[0] and own[1]:
            found.append(Offer(name, (tuple(own[0]), tuple(own[1]))))
    rng.shuffle(found)
    return found


def together(constraints: Sequence[Constraint]) -> bool:
    """Whether they can be asked for in one prompt."""
    return compatible([(one.checker, one.args) for one in constraints])


def relations(text: str, better: Sequence[Constraint], worse: Sequence[Constraint]) -> frozenset[str]:
    """How ``better`` suits a text more than ``worse`` does (arXiv 2505.12845).

    ``a``: the text obeys all of better and not all of worse; ``b``: at least one of better and none of worse. The same
    constraints twice, or nothing obeyed in better, is no relation.
    """
    of_better, of_worse = ([one.obeyed(text) for one in each] for each in (better, worse))
    found = set()
    if list(better) != list(worse) and all(of_better) and not all(of_worse):
        found.add("a")
    if any(of_better) and not any(of_worse):
        found.add("b")
    return frozenset(found)
