from __future__ import annotations

from importlib import resources

import pytest

from rather.errors import UserError
from rather.worlds.instructions.load import FILES, load_pairs, load_prompts, summary
from rather.worlds.instructions.pairs import Answer, describe_pairs, pairs_of, usable
from rather.worlds.instructions.prompts import compose
from rather.worlds.instructions.scoring import score


def test_embedded_prompts_are_the_composed_ones() -> None:
    settings = summary()["settings"]
    assert settings["train"] >= 600
    assert settings["heldout"] >= 150
    for split, n in (("train", settings["train"]), ("heldout", settings["heldout"])):
        assert load_prompts(split) == [prompt.record() for prompt in compose(split, n, settings["seed"])]


@pytest.mark.parametrize(("split", "prompts", "fewest"), [("train", "train", 600), ("eval", "heldout", 100)])
def test_embedded_pairs_are_labelled_right(split: str, prompts: str, fewest: int) -> None:
    rows, known = load_pairs(split), {record["id"]: record for record in load_prompts(prompts)}
    assert len(rows) >= fewest
    assert len({row["id"] for row in rows}) == len(rows)
    for row in rows:
        record = known[row["id"].rsplit("-", 1)[0]]
        assert (row["prompt"], row["constraints"]) == (record["prompt"], record["constraints"])
        for side in ("chosen", "rejected"):
            checks = score(row, row[side])
            assert row[f"{side}_passes"] == sorted(name for name, obeyed in checks.items() if obeyed)
            assert usable(row[side])
        assert len(row["chosen_passes"]) > len(row["rejected_passes"])
    assert summary()["pairs"][f"pairs-{split}"] == describe_pairs(rows)


def test_pairs_are_not_given_away_by_length() -> None:
    assert 0.25 < describe_pairs(load_pairs("train"))["longer_is_chosen"] < 0.75


def test_size_of_the_embedded_files() -> None:
    folder = resources.files("rather.worlds.instructions").joinpath("data")
    assert sum(len(folder.joinpath(name).read_bytes()) for name in FILES.values()) < 1_500_000


def test_unknown_split() -> None:
    with pytest.raises(UserError, match="train"):
        load_pairs("trian")
    with pytest.raises(UserError, match="heldout"):
        load_prompts("held")


RECORD = {
    "id": "x",
    "prompt": [{"role": "user", "content": "?"}],
    "constraints": [["no_commas", {}], ["max_words", {"n": 4}]],
}


def test_pairs_of_prefers_all_constraints_and_equal_length() -> None:
    answers = [
        Answer("It rains a lot", True, 5),
        Answer("It rains, a lot", True, 6),
        Answer("It rains, and then it pours on all of us", True, 13),
        Answer("It rains and it pours all day", True, 9),
        Answer("Rain", False, 2),
    ]
    rows = pairs_of(RECORD, answers)
    assert [row["id"] for row in rows] == ["x-0", "x-1"]
    assert (rows[0]["chosen"], rows[0]["rejected"]) == ("It rains a lot", "It rains, a lot")
    assert rows[0]["chosen_passes"] == ["max_words", "no_commas"]
    assert rows[0]["rejected_passes"] == ["max_words"]
    assert (rows[1]["chosen"], rows[1]["rejected"]) == (answers[3].text, answers[2].text)
    assert len(pairs_of(RECORD, answers, limit=1)) == 1


def test_pairs_of_needs_a_finished_better_answer() -> None:
    assert pairs_of(RECORD, [Answer("Rain", False, 2), Answer("a, b", True, 3)]) == []
    assert pairs_of(RECORD, [Answer("Rain", True, 2), Answer("Snow", True, 2)]) == []
    assert pairs_of(RECORD, []) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A fine day.", True),
        ("Grapes and a gown on Christmas?", False),
        ("Grapes and a jewel.", True),
        ("", False),
        ("...", False),
        ("See https://example.org", False),
        ("me@example.org", False),
        ("no no no no", False),
        ("no no no", True),
        ("Дождь", False),
        ("Café für alle", True),
        ("He died.", False),
        ("A diet of dice", True),
    ],
)
def test_usable(text: str, expected: bool) -> None:
    assert usable(text) is expected
