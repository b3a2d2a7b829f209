"""Key phrases and graded texts: the published example, and what holds for any text."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rather.data.degrees import with_degrees
from rather.data.rake import candidates, degraded, key_phrases, stop_words, without, word_scores
from rather.data.types import Comparison, Edge
from rather.errors import UserError

STOPS = {"the", "a", "is", "and", "of", "in", "to", "it", "was", "on", "by", "for", "with", "you", "can", "your"}
TEXT = "The red car hit the blue wall. Red car stopped by the wall."


def test_published_example() -> None:
    assert word_scores(TEXT, STOPS) == {"red": 3, "car": 3, "hit": 3, "stopped": 3, "blue": 2, "wall": 1.5}
    assert key_phrases(TEXT, STOPS) == [("red car hit", 9), ("red car stopped", 9), ("blue wall", 3.5), ("wall", 1.5)]
    assert degraded(TEXT, 4, STOPS) == [
        TEXT,
        "The the blue wall. by the wall.",
        "The the. by the wall.",
        "The the. by the.",
    ]


def test_words_are_taken_out_whole_and_everywhere() -> None:
    assert without("The car is careful; a car's CAR, a well-car.", ["car"]) == "The is careful; a car's, a well-car."
    assert without("Red (car)  hit.", ["red car"]) == ") hit."
    assert without("Don’t stop", ["don't"]) == "stop"
    assert without("a  b\n  - c \n d", []) == "a b\n- c\nd"


def test_a_phrase_does_not_reach_over_punctuation_or_lines() -> None:
    assert candidates("red car, blue\nwall", STOPS) == [("red", "car"), ("blue",), ("wall",)]
    assert without("red. car", ["red car"]) == "red. car"


text = st.lists(
    st.sampled_from(["the", "a", "red", "car", "wall", "blue", "hit", "tree", ",", ".", "\n", "well-known"]),
    max_size=30,
).map(" ".join)
quick = settings(max_examples=80, deadline=None)


@quick
@given(text)
def test_a_stop_word_or_a_mark_at_the_end_changes_no_score(given_text: str) -> None:
    found = key_phrases(given_text, STOPS)
    assert found == key_phrases(given_text, STOPS)
    for more in (" the", ".", " a ;"):
        assert key_phrases(given_text + more, STOPS) == found


def word_count(shown: str) -> dict[str, int]:
    found = re.findall(r"[\w'-]+", shown.lower())
    return {word: found.count(word) for word in found}


@quick
@given(text, st.integers(2, 6))
def test_levels_are_nested(given_text: str, levels: int) -> None:
    texts = degraded(given_text, levels, STOPS)
    phrases = [phrase for phrase, _ in key_phrases(given_text, STOPS)]
    if texts is None:
        last = without(given_text, phrases)
        assert len(phrases) < levels - 1 or not word_count(last)
        return
    assert texts[0].split() == re.sub(r" ([.,;:!?])", r"\1", given_text).split()
    for fuller, barer in pairwise(texts):
        counts = word_count(fuller)
        assert all(number <= counts.get(word, 0) for word, number in word_count(barer).items())
        assert sum(word_count(barer).values()) < sum(counts.values())
    assert word_count(texts[-1]).keys() <= STOPS
    order = {phrase: place for place, phrase in enumerate(phrases)}
    for phrase, place in order.items():
        parts = [other for other in order if other != phrase and re.search(rf"\b{other}\b", phrase)]
        assert all(place < order[part] for part in parts)


def test_stop_words_of_each_language() -> None:
    for language, word in (("english", "the"), ("german", "und"), ("french", "les"), ("spanish", "pero")):
        assert word in stop_words(language) and len(stop_words(language)) > 100
    with pytest.raises(UserError, match="klingon"):
        stop_words("klingon")


LONG = "The red car hit the blue wall. A green tree stood by the old house, and it was quiet."
PAIR = Comparison("a", "p", (TEXT, LONG), (Edge(0, 1),))


def graded(one: Comparison, seed: int = 0, **options: object) -> Comparison:
    return with_degrees(one, seed, **{"levels": 4, "stops": STOPS, **options})  # type: ignore[arg-type]


class TestAuxiliaries:
    def test_one_level_of_each_response(self) -> None:
        found = graded(PAIR)
        assert [(item.group, item.sign, item.prompt) for item in found.auxiliary] == [(0, 0.5, None), (1, 0.5, None)]
        for item, whole in zip(found.auxiliary, PAIR.responses, strict=True):
            texts = degraded(whole, 4, STOPS)
            assert texts is not None and item.response == texts[item.label]
        assert graded(PAIR) == found
        assert {item.label for seed in range(20) for item in graded(PAIR, seed).auxiliary} == {0, 1, 2, 3}

    def test_every_level(self) -> None:
        found = graded(PAIR, every_level=True)
        assert [item.label for item in found.auxiliary] == [0, 1, 2, 3] * 2
        assert {item.sign for item in found.auxiliary} == {1 / 8}

    def test_one_side(self) -> None:
        for side, index in (("chosen", 0), ("rejected", 1)):
            assert [(i.group, i.sign) for i in graded(PAIR, apply_to=side).auxiliary] == [(index, 0.5)]

    def test_a_response_counts_for_each_of_its_edges(self) -> None:
        three = Comparison("r", "p", (TEXT, LONG, LONG + " A cat slept."), (Edge(0, 1), Edge(0, 2)))
        assert [item.sign for item in graded(three).auxiliary] == [1.0, 0.5, 0.5]

    def test_what_cannot_be_graded_is_left_out(self) -> None:
        short = Comparison("s", "p", ("Yes.", LONG), (Edge(0, 1),))
        assert [item.group for item in graded(short).auxiliary] == [1]
        bare = Comparison("b", "p", ("red car, blue wall, green tree", "Yes."), (Edge(0, 1),))
        assert graded(bare) is bare  # nothing would be left at the last level
        unmarked = Comparison("u", "p", (TEXT,))
        assert graded(unmarked) is unmarked
