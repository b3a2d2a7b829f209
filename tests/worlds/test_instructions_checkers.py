from __future__ import annotations

import json
import random
import string
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rather.errors import UserError
from rather.worlds.instructions.checkers.base import Split
from rather.worlds.instructions.checkers.registry import CHECKERS, checker, compatible
from rather.worlds.instructions.topics import TASKS, TOPICS

SPLITS: tuple[Split, ...] = ("train", "heldout")

# name, arguments, answers that obey, answers that do not
CASES: list[tuple[str, dict[str, Any], list[str], list[str]]] = [
    ("max_words", {"n": 3}, ["a b c", " a \n", "it's well-known."], ["a b c d", "", "..."]),
    ("fewer_words", {"n": 3}, ["a b", "a"], ["a b c", ""]),
    ("min_words", {"n": 3}, ["a b c", "a, b - c d"], ["a b", ""]),
    ("words_between", {"low": 2, "high": 3}, ["a b", "a b c"], ["a", "a b c d"]),
    ("exact_words", {"n": 2}, ["Cold water.", " cold  water "], ["water", "very cold water"]),
    ("single_word", {}, ["Water", "**water**.", "well-being"], ["", "cold water", "!"]),
    ("sentences", {"n": 2}, ["It rains. It pours.", "Why?  Because"], ["It rains.", "A. B. C."]),
    ("max_sentences", {"n": 2}, ["One.", "One. Two."], ["One. Two. Three.", ""]),
    ("lines", {"n": 2}, ["a\nb", "a\n\nb\n"], ["a b", "a\nb\nc"]),
    ("paragraphs", {"n": 2}, ["a\n\nb", "a\nx\n \nb"], ["a\nb", "a\n\nb\n\nc"]),
    ("max_characters", {"n": 5}, ["abcde", "  abcde\n"], ["abcdef", "", "a b cd"]),
    ("contains", {"word": "rain"}, ["Rain falls", "the (rain)"], ["rainy days", "train", ""]),
    ("contains_all", {"words": ["sun", "sea"]}, ["Sea and SUN."], ["sun", "sunny sea"]),
    ("word_times", {"word": "tea", "n": 2}, ["Tea is tea."], ["tea", "teas and team tea"]),
    ("avoid", {"words": ["the", "very"]}, ["There it is", "Everything"], ["The end", "a VERY nice day", ""]),
    ("avoid_letter", {"letter": "k"}, ["nice"], ["Kind", "like", ""]),
    (
        "starts_with",
        {"word": "Today"},
        ["Today it rains", '"today" is', "**Today**, ok"],
        ["It is today", "Todays", ""],
    ),
    ("first_letter", {"letter": "S"}, ["Sun", '"sun"', "- so"], ["The sun", "3 Suns", ""]),
    (
        "no_preamble",
        {},
        ["Surely not", "There is", "Here we go"],
        ["Sure!", "of course", "Here are three", "Here’s a", ""],
    ),
    (
        "ends_with",
        {"phrase": "see you soon"},
        ["Bye, see you soon!", "See you soon"],
        ["see you soon, Tom", "soon", ""],
    ),
    ("ends_with_question", {}, ["Is it?", 'He said "why?"', "ok? \n"], ["Is it? Yes.", ""]),
    ("ends_with_exclamation", {}, ["Yes!", "**Yes!**"], ["Yes! No.", ""]),
    ("yes_no_first", {}, ["Yes, it is.", "no", "**No**: it"], ["Yesterday", "I say yes", ""]),
    ("yes_no_only", {}, ["Yes", " no. "], ["Yes, please", "maybe", ""]),
    ("postscript", {}, ["Hi.\nP.S. Bye."], ["P.S. only", "Hi. P.S. Bye", "Hi.\nP.S.", "Hi.\nP.S. Bye.\nTom"]),
    ("lowercase", {}, ["it works", "é 1"], ["It works", "", "123"]),
    ("uppercase", {}, ["IT WORKS 2", "É"], ["It works", "123", "IT WORKs"]),
    ("no_commas", {}, ["It works; yes"], ["Yes, it works", "1,000", ""]),
    ("no_digits", {}, ["seven"], ["7", "a1", ""]),
    ("has_number", {}, ["7 days", "a1"], ["seven days", ""]),
    ("no_exclamation", {}, ["Yes."], ["Yes!", "", "?!"]),
    ("no_question", {}, ["Yes."], ["Yes?", ""]),
    ("quoted", {}, ['"It works."', "“Yes”", '\n"a"\n'], ['"a', 'a "b"', '""', ""]),
    ("parentheses", {}, ["It (this) works", "a (b c)."], ["It works", "( )", "(a"]),
    ("colon", {}, ["Note: yes"], ["Note; yes", ""]),
    ("language", {"language": "German"}, ["Das ist der Hund und die Katze."], ["This is the dog.", "Hund"]),
    ("bullets", {"n": 2}, ["- a\n- b", "So:\n * a\n * b\nEnd"], ["- a", "- a\n- b\n- c", "**a**\n**b**", "-a\n-b"]),
    (
        "numbered",
        {"n": 2},
        ["1. a\n2. b", "So:\n1) a\n2) b"],
        ["1. a", "1. a\n3. b", "2. a\n1. b", "1. a\n2. b\n3. c"],
    ),
    (
        "comma_list",
        {"n": 3},
        ["a, b, c", "red tea, b, c."],
        ["a, b", "a, b, c, d", "a,\nb, c", "a, one two three four five, c", "a,,c"],
    ),
    ("no_list", {}, ["It works - yes.", "I saw 1. no"], ["- a", "x\n2) b", ""]),
    ("angle_title", {}, ["<<Rain>> It", "x <<a b>>"], ["<Rain>", "<<>>", "<< \n a>>"]),
    ("bold_title", {}, ["**Rain**\nIt falls."], ["**Rain**", "**Rain** falls", "Rain\nfalls", "****\nfalls"]),
    ("heading", {}, ["# Rain\nIt", "\n# R"], ["#Rain", "Rain\n# x", "## Rain", ""]),
    ("table", {}, ["| a | b |\n|---|:-:|\n| 1 | 2 |"], ["| a | b |\n| 1 | 2 |\n| 3 | 4 |", "a, b"]),
    ("placeholders", {"n": 2}, ["[a] and [b c]"], ["[a]", "[] [a]", ""]),
    (
        "json_object",
        {"keys": ["a", "b"]},
        ['{"a": 1, "b": "x"}', ' {"b":[],"a":{}}\n'],
        ['{"a": 1}', '{"a":1,"b":2,"c":3}', "[1]", "x", "[" * 9999],
    ),
    ("json_list", {"n": 2}, ['["a", "b"]'], ['["a"]', '["a", 1]', '{"a": 1}', "a, b", '```json\n["a","b"]\n```']),
]


def test_every_checker_has_cases() -> None:
    assert sorted(name for name, *_ in CASES) == sorted(CHECKERS)
    assert len(CHECKERS) >= 25


@pytest.mark.parametrize(("name", "args", "good", "bad"), CASES, ids=[case[0] for case in CASES])
def test_cases(name: str, args: dict[str, Any], good: list[str], bad: list[str]) -> None:
    one = checker(name)
    assert [answer for answer in good if not one.check(args, answer)] == []
    assert [answer for answer in bad if one.check(args, answer)] == []


@pytest.mark.parametrize("name", CHECKERS)
@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), split=st.sampled_from(SPLITS), pad=st.sampled_from(["", " ", "\n", " \n\n"]))
def test_constructed_answers(name: str, seed: int, split: Split, pad: str) -> None:
    rng = random.Random(seed)
    one = CHECKERS[name]
    args = one.sample(rng, split, rng.choice(TOPICS[split]))
    assert json.loads(json.dumps(args)) == args
    assert one.check(args, pad + one.passing(args) + pad)
    assert not one.check(args, pad + one.failing(args) + pad)
    for variant in range(len(one.wordings(split))):
        told = one.describe(args, split, variant)
        assert "{" not in told.replace('{"', "")
        assert told[0].isupper()
        assert told.rstrip('"')[-1] in ".?!" or told.endswith("**Title**")


@pytest.mark.parametrize("name", CHECKERS)
@settings(deadline=None, max_examples=40)
@given(answer=st.text(alphabet=string.printable, max_size=120))
def test_any_answer_is_judged(name: str, answer: str) -> None:
    rng = random.Random(0)
    one = CHECKERS[name]
    args = one.sample(rng, "train", TOPICS["train"][0])
    assert one.check(args, answer) in (True, False)
    assert one.check(args, answer.strip()) == one.check(args, f" {answer}\n")
    assert not one.check(args, " \n ")


@pytest.mark.parametrize("name", CHECKERS)
def test_required_text_is_in_the_passing_answer(name: str) -> None:
    rng = random.Random(1)
    one = CHECKERS[name]
    for topic in TOPICS["train"]:
        args = one.sample(rng, "train", topic)
        needed, given_answer = one.required(args), one.passing(args).casefold()
        assert all(part.casefold() in given_answer for part in needed.split()) or all(
            char in given_answer for char in needed
        )


def test_wordings_of_the_splits_differ() -> None:
    train = {wording for one in CHECKERS.values() for wording in one.train}
    heldout = {wording for one in CHECKERS.values() for wording in one.heldout}
    assert train.isdisjoint(heldout)
    assert {topic.name for topic in TOPICS["train"]}.isdisjoint(topic.name for topic in TOPICS["heldout"])
    for kind in TASKS["train"]:
        assert set(TASKS["train"][kind]).isdisjoint(TASKS["heldout"][kind])


def test_topics_are_well_formed() -> None:
    for topic in (*TOPICS["train"], *TOPICS["heldout"]):
        assert len(set(topic.keywords)) == 3
        assert not set(topic.keywords) & {topic.word, *topic.name.split()}


@pytest.mark.parametrize(
    ("constraints", "together"),
    [
        ([("max_words", {"n": 9}), ("no_commas", {})], True),
        ([("max_words", {"n": 9}), ("min_words", {"n": 12})], False),
        ([("lowercase", {}), ("uppercase", {})], False),
        ([("contains", {"word": "wind"}), ("avoid_letter", {"letter": "w"})], False),
        ([("avoid_letter", {"letter": "w"}), ("contains", {"word": "wind"})], False),
        ([("contains", {"word": "sun"}), ("avoid_letter", {"letter": "w"})], True),
        ([("word_times", {"word": "rain", "n": 2}), ("avoid", {"words": ["rain"]})], False),
        ([("has_number", {}), ("no_digits", {})], False),
        ([("ends_with_exclamation", {}), ("no_exclamation", {})], False),
        ([("ends_with_question", {}), ("no_question", {})], False),
        ([("comma_list", {"n": 3}), ("no_commas", {})], False),
        ([("json_object", {"keys": ["a", "b"]}), ("no_commas", {})], False),
        ([("language", {"language": "German"}), ("starts_with", {"word": "Today"})], False),
        ([("bullets", {"n": 2}), ("numbered", {"n": 2})], False),
        ([("quoted", {}), ("ends_with", {"phrase": "take care"})], False),
    ],
)
def test_compatible(constraints: list[tuple[str, dict[str, Any]]], together: bool) -> None:
    assert compatible(constraints) is together


def test_unknown_checker() -> None:
    with pytest.raises(UserError, match="no_commas"):
        checker("no_comma")
