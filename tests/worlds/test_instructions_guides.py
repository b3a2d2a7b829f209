from __future__ import annotations

import pytest

from rather.worlds.instructions.guides import Guide, guide
from rather.worlds.instructions.prompts import compose
from rather.worlds.instructions.scoring import score

RECORDS = [prompt.record() for prompt in compose("train", 640)]


def record(*constraints: tuple[str, dict[str, object]]) -> dict[str, object]:
    return {"constraints": [list(one) for one in constraints]}


@pytest.mark.parametrize(
    ("constraints", "continuation", "expected"),
    [
        ([("starts_with", {"word": "Today"})], " we rest.", "Today we rest."),
        ([("quoted", {})], "We rest.", '"We rest."'),
        ([("ends_with", {"phrase": "enjoy it"})], "We rest.", "We rest, enjoy it."),
        ([("ends_with_exclamation", {}), ("uppercase", {})], "WE REST.", "WE REST!"),
        ([("contains_all", {"words": ["leaf", "rain"]}), ("lowercase", {})], " fall.", "leaf and rain fall."),
        ([("max_words", {"n": 5})], " We rest. ", "We rest."),
    ],
)
def test_what_a_guide_fixes_obeys(constraints, continuation, expected):
    of = record(*constraints)
    text = guide(of).finish(continuation)
    assert text == expected
    assert all(score(of, text).values())


def test_forbidden_characters():
    assert guide(record(("no_commas", {}), ("no_digits", {}))).forbidden == frozenset(",，0123456789")
    assert "A" in guide(record(("lowercase", {}))).forbidden
    assert guide(record(("avoid_letter", {"letter": "b"}))).forbidden == frozenset("bB")


def test_nothing_to_help():
    assert not guide(record(("max_words", {"n": 5})))
    assert Guide().finish(" x ") == "x"


def test_a_guide_never_fixes_what_it_forbids():
    for one in RECORDS:
        found = guide(one)
        assert found.forbidden.isdisjoint(found.prefix.strip('"') + found.suffix.strip('".') or " "), one["id"]


def test_most_prompts_have_one():
    assert sum(bool(guide(one)) for one in RECORDS) > 0.6 * len(RECORDS)
