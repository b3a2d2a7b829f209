"""Minimal wrong versions of annotations: always different, always valid, written alike."""

from __future__ import annotations

import json
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rather.data.annotations import Annotation, Codebook, dump, parse
from rather.data.hard_negatives import STRATEGIES, Confusion, HardNegatives, written_pair

BOOK = Codebook({"A": ("a1", "a2", "shared"), "B": ("b1", "shared"), "C": ("c1",)})
CONFUSION = Confusion(
    {"A": {"A": 50, "B": 3, "C": 1}, "B": {"A": 1}, "C": {"B": 2}},
    {"a1": {"a1": 90, "a2": 9, "b1": 5}, "a2": {"a1": 1}, "shared": {"a1": 1, "b1": 1}, "b1": {"shared": 1}},
)
NEGATIVES = HardNegatives(BOOK, CONFUSION)

annotations = st.lists(
    st.builds(
        lambda pair, span: Annotation(*pair, span), st.sampled_from(list(BOOK.pairs())), st.text("xy ", max_size=8)
    ),
    max_size=4,
)


@given(annotations, st.integers(0, 2**32))
def test_a_negative_differs_and_is_valid(gold: list[Annotation], seed: int) -> None:
    before = list(gold)
    drawn = NEGATIVES.draw(gold, random.Random(seed), text="some words here")
    assert gold == before
    if drawn is None:
        return
    changed, strategy = drawn
    assert set(changed) != set(gold)
    assert all(BOOK.valid(a.code, a.subcode) for a in changed)
    assert len(changed) - len(gold) == {"missing": -1, "extra": 1, "spurious": 1}.get(strategy, 0)
    if strategy in ("code", "subcode", "both"):
        assert [a.span for a in changed] == [a.span for a in gold]
        assert sum(a != b for a, b in zip(changed, gold, strict=True)) <= (2 if strategy == "both" else 1)


def drawn(
    gold: list[Annotation], number: int = 4000, negatives: HardNegatives = NEGATIVES
) -> list[tuple[list[Annotation], str]]:
    draws = random.Random(42)
    return [found for _ in range(number) if (found := negatives.draw(gold, draws)) is not None]


def test_strategies_come_as_often_as_asked() -> None:
    gold = [Annotation("A", "a1", "one two three"), Annotation("B", "b1", "four five")]
    counts = Counter(strategy for _, strategy in drawn(gold))
    for name, share in STRATEGIES.items():
        assert counts[name] / 4000 == pytest.approx(share, abs=0.03)


def test_confusable_labels_come_in_proportion_and_never_the_gold_one() -> None:
    gold = [Annotation("A", "a1", "x y")]
    found = drawn(gold, negatives=HardNegatives(BOOK, CONFUSION, {"code": 1.0}))
    codes = Counter(changed[0].code for changed, _ in found)
    assert set(codes) == {"B", "C"}
    assert codes["B"] / codes.total() == pytest.approx(0.75, abs=0.03)
    subcodes = {
        changed[0].subcode for changed, _ in drawn(gold, negatives=HardNegatives(BOOK, CONFUSION, {"subcode": 1.0}))
    }
    assert subcodes == {"a2"}, "b1 was confused more often, but the code has no such sub-code"
    kept = drawn([Annotation("A", "shared", "x")], negatives=HardNegatives(BOOK, CONFUSION, {"code": 1.0}))
    assert {(a.code, a.subcode) for changed, _ in kept for a in changed} == {("B", "shared"), ("C", "c1")}


def test_the_second_change_of_both() -> None:
    gold = [Annotation("A", "shared", "x")]
    found = [changed[0] for changed, _ in drawn(gold, negatives=HardNegatives(BOOK, CONFUSION, {"both": 1.0}))]
    to_b = [a.subcode for a in found if a.code == "B"]
    assert to_b.count("b1") / len(to_b) == pytest.approx(0.6, abs=0.04)


def test_an_extra_annotation_has_the_first_half_of_a_span() -> None:
    gold = [Annotation("A", "a1", "one two three four five")]
    for changed, _ in drawn(gold, 50, HardNegatives(BOOK, CONFUSION, {"extra": 1.0})):
        assert changed[:1] == gold
        assert changed[1].span == "one two three"
        assert changed[1].code in ("B", "C")


def test_where_nothing_can_be_changed() -> None:
    alone = [Annotation("A", "a1", "x")]
    assert HardNegatives(BOOK, Confusion()).draw(alone, random.Random(0)) is None
    assert HardNegatives(BOOK, Confusion(), {"missing": 1.0}).draw(alone, random.Random(0)) is None
    assert NEGATIVES.draw([], random.Random(0)) is None
    spurious = NEGATIVES.draw([], random.Random(0), text="a b c d")
    assert spurious is not None
    assert (spurious[0][0].span, spurious[1]) == ("a b", "spurious")


def test_counting_what_a_model_confuses() -> None:
    gold = [Annotation("A", "a1", "x"), Annotation("B", "b1", "y"), Annotation("C", "c1", "z")]
    predicted = [Annotation("B", "b1", "y"), Annotation("A", "a2", "x"), Annotation("A", "a1", "other")]
    found = Confusion.count([(gold, predicted), (gold, [])])
    assert found.codes == {"A": {"A": 1}, "B": {"B": 1}, "C": {"A": 1}}
    assert found.subcodes == {"a1": {"a2": 1}, "b1": {"b1": 1}, "c1": {"a1": 1}}


@given(annotations, st.integers(0, 2**32))
def test_both_texts_are_written_alike(gold: list[Annotation], seed: int) -> None:
    pair = written_pair(gold, NEGATIVES, random.Random(seed), "some words")
    if pair is None:
        return
    assert pair.chosen != pair.rejected
    for text in (pair.chosen, pair.rejected):
        assert json.dumps(json.loads(text), ensure_ascii=False) == text


@given(annotations, st.sampled_from(["", "Sure! ", "{not this} ", "```json\n"]), st.sampled_from(["", "\nDone.", "}"]))
def test_answers_are_read_back(gold: list[Annotation], before: str, behind: str) -> None:
    assert parse(before + dump(gold) + behind) == gold


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("no braces", None),
        ('{"results": 3}', None),
        ('{"results": [', None),
        ('{"other": []}', None),
        ('{"results": [3, {"Code": "A"}, {"Code": "A", "Sub-code": 1, "Span": "x"}]}', []),
        ('{"results": []}', []),
        ('{"x": {"results": []}}', []),
    ],
)
def test_answers_that_are_no_annotations(text: str, expected: list[Annotation] | None) -> None:
    assert parse(text) == expected
