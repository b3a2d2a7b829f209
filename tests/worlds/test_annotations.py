"""The world of annotations: messages, pairs, the metric, and the check of answers."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from rather.data.annotations import Annotation, dump, parse
from rather.data.load import load
from rather.errors import UserError
from rather.training import world as check_of_training
from rather.worlds.annotations.comparisons import answer_check, held_out, neighbours
from rather.worlds.annotations.messages import compose
from rather.worlds.annotations.metric import Tally, micro, same_span, tally
from rather.worlds.annotations.phrases import CODEBOOK, PHRASES
from rather.worlds.catalog import check_answers, load_world


def test_pairs_are_gold_against_one_wrong_version() -> None:
    rows = load_world("world:annotations?pairs=200")
    assert len({row.id for row in rows}) == 200
    for row in rows:
        chosen, rejected = (parse(text) for text in row.responses)
        assert chosen and rejected and set(chosen) != set(rejected)
        assert all(CODEBOOK.valid(a.code, a.subcode) for a in [*chosen, *rejected])
        assert all(a.span in row.prompt[0]["content"] for a in chosen)
        assert dump(chosen) == row.responses[0]
    strategies = Counter(row.extras["strategy"] for row in rows)
    assert set(strategies) == {"code", "subcode", "both", "missing", "extra"}


def test_every_row_can_be_loaded() -> None:
    loaded = load("world:annotations?pairs=500")
    assert len(loaded) == 500
    assert not loaded.refused


def test_seeds_splits_and_flips() -> None:
    one, same = (load_world("world:annotations?pairs=50&seed=3") for _ in range(2))
    assert one == same
    assert load_world("world:annotations?pairs=50&seed=4") != one
    spans = [
        {
            a.span
            for row in load_world(f"world:annotations?pairs=400&split={split}")
            for a in parse(row.responses[0]) or []
        }
        for split in ("train", "eval")
    ]
    assert not spans[0] & spans[1]
    flipped = load_world("world:annotations?pairs=400&flip=0.25")
    share = sum(row.extras["flipped"] for row in flipped) / 400
    assert share == pytest.approx(0.25, abs=0.07)
    straight = load_world("world:annotations?pairs=400")
    turned = [(a, b) for a, b in zip(flipped, straight, strict=True) if a.extras["flipped"]]
    assert all(a.responses == b.responses[::-1] for a, b in turned)
    assert not any(row.extras["flipped"] for row in load_world("world:annotations?pairs=50&flip=0.4&split=eval"))
    with pytest.raises(UserError, match="did you mean 'pairs'"):
        load_world("world:annotations?pair=3")


def test_every_passage_has_a_place() -> None:
    assert all(
        len(passages) >= 4 and len(set(passages)) == len(passages) for c in PHRASES.values() for passages in c.values()
    )
    message = compose(random.Random(0), "train")
    assert all(annotation.span in message.text for annotation in message.gold)
    confusion = neighbours()
    assert set(confusion.codes) == set(CODEBOOK.subcodes)
    assert max(confusion.codes["Delivery"], key=lambda code: confusion.codes["Delivery"][code]) == "Payment"


A, B = Annotation("X", "x1", "the big red box"), Annotation("Y", "y1", "it is late")


def test_labels_are_sets_and_spans_are_matched_once() -> None:
    found = tally([A, B], [A, A._replace(subcode="x2", span="the big red box")])
    assert found["codes"] == Tally(1, 1, 2)
    assert found["sub-codes"] == Tally(1, 2, 2)
    assert found["spans"] == Tally(1, 2, 2), "two predictions of the same span match it once"
    assert (found["codes"].precision, found["codes"].recall) == (1.0, 0.5)
    assert found["codes"].f1 == pytest.approx(2 / 3)
    pooled = micro([([A, B], [A]), ([B], [B, A])])
    assert pooled["codes"] == Tally(2, 3, 3)
    assert tally([], [])["codes"].f1 == 0.0


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("the big red box", "red box", True),
        ("red box", "the big red box", True),
        ("The Box", "the box", True),
        ("a b c d", "a b c e", True),  # 3 of 5
        ("a b c d", "a b e f", False),  # 2 of 6
        ("a a", "a", True),
        ("a a b", "a c", False),
        ("", "anything", False),
        ("", "", False),
        ("a", "b", False),
    ],
)
def test_spans_that_count_as_the_same(one: str, other: str, expected: bool) -> None:
    assert same_span(one, other) is expected


def test_the_check_of_answers() -> None:
    world = check_answers("world:annotations?split=eval")
    assert world is not None and world.counts is not None
    messages = held_out()
    assert len(world.prompts) == len(messages)
    gold = dump(messages[0].gold)
    assert all(world.check(0, f"Here it is: {gold}").values())
    assert not any(world.check(0, "I do not know").values())
    counts = world.counts(0, gold)
    assert all(right == total for right, total in counts.values())
    assert world.counts(0, "nothing")["recall of codes"] == (0, len({a.code for a in messages[0].gold}))
    assert world.counts(0, "nothing")["precision of codes"] == (0, 0)
    wrong = dump([messages[0].gold[0]._replace(span="something else entirely"), *messages[0].gold[1:]])
    checked = world.check(0, wrong)
    assert checked["codes"] and checked["is JSON"] and not checked["spans"]
    assert answer_check().max_tokens == world.max_tokens


def test_what_is_counted_inside_answers_is_pooled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the answers are right; a rate is over everything that was counted, not a mean over answers."""
    world, messages = answer_check(), held_out()
    half = len(messages) // 2
    answers = [dump(m.gold) if i < half else "no idea" for i, m in enumerate(messages)]
    monkeypatch.setattr(check_of_training, "_answers", lambda policy, asked: answers)
    found = check_of_training.check(None, world, tmp_path, "before")  # type: ignore[arg-type]
    gold = [len(m.gold) for m in messages]
    assert found["pass_rate"].mean() == half / len(messages)
    assert found["recall of spans"].mean() == pytest.approx(sum(gold[:half]) / sum(gold))
    assert found["precision of spans"].mean() == 1.0
    assert len(found["precision of spans"]) == sum(gold[:half])
    assert found["F1 of spans"].mean() == pytest.approx(2 * sum(gold[:half]) / (sum(gold[:half]) + sum(gold)))
    monkeypatch.setattr(check_of_training, "_answers", lambda policy, asked: ["no idea"] * len(messages))
    nothing = check_of_training.check(None, world, tmp_path, "before")  # type: ignore[arg-type]
    assert "precision of spans" not in nothing
    assert nothing["F1 of spans"].mean() == 0
