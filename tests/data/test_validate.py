"""What shows only across rows: duplicates, contradictions, overlap, balance, length bias; and lengths in tokens."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from rather.data.lengths import measure
from rather.data.load import load
from rather.data.validate import overlap
from rather.errors import UserError
from rows import PAIR, jsonl, pair


def test_later_duplicates_are_left_out(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "d.jsonl", pair(1), pair(2), pair(1), pair(1, id="again", weight=3))
    found = load(path)
    assert len(found) == 2
    assert [(r.code, r.source.row) for r in found.refused] == [("duplicate", 3), ("duplicate", 4)]
    assert all(f"{path}:1" in r.reason for r in found.refused)
    assert found.summary["refused_by_reason"]["duplicate"]["first"] == [f"{path}:3", f"{path}:4"]
    with pytest.raises(UserError, match="the same comparison stands at"):
        load(path, strict=True)


def test_duplicates_across_files_of_a_folder(tmp_path: Path) -> None:
    jsonl(tmp_path / "a.jsonl", pair(1))
    jsonl(tmp_path / "b.jsonl", pair(2), pair(1))
    [refusal] = load(tmp_path).refused
    assert str(refusal.source) == f"{tmp_path}/b.jsonl:2"
    assert f"{tmp_path}/a.jsonl:1" in refusal.reason


def test_an_id_stands_for_one_comparison(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "d.jsonl", pair(1, id="x"), pair(2, id="x"))
    [refusal] = load(path).refused
    assert (refusal.code, refusal.source.row) == ("id-taken", 2)
    assert "'x'" in refusal.reason and f"{path}:1" in refusal.reason


def test_a_contradiction_is_kept_and_warned_of(tmp_path: Path) -> None:
    reverse = {"prompt": PAIR["prompt"], "chosen": PAIR["rejected"], "rejected": PAIR["chosen"]}
    path = jsonl(tmp_path / "d.jsonl", PAIR, pair(1), reverse)
    found = load(path)
    assert len(found) == 3
    assert found.summary["contradictions"] == 1
    assert found.census.places == [(f"{path}:3", f"{path}:1")]
    assert any("contradict" in warning for warning in found.warnings)


def test_a_ranking_contradicts_a_pair(tmp_path: Path) -> None:
    jsonl(tmp_path / "a.jsonl", {"prompt": "p", "responses": ["a", "b", "c"], "ranks": [1, 2, 3]})
    jsonl(tmp_path / "b.jsonl", {"prompt": "p", "chosen": "c", "rejected": "a"})
    found = load(tmp_path)
    assert found.summary["contradictions"] == 1
    assert any("mixes formats" in warning for warning in found.warnings)


def test_no_contradiction_between_prompts(tmp_path: Path) -> None:
    rows = ({"prompt": "p", "chosen": "a", "rejected": "b"}, {"prompt": "q", "chosen": "b", "rejected": "a"})
    assert load(jsonl(tmp_path / "d.jsonl", *rows)).summary["contradictions"] == 0


def test_overlap_finds_comparisons_in_any_order_and_prompts(tmp_path: Path) -> None:
    train = load(jsonl(tmp_path / "train.jsonl", *(pair(i) for i in range(4))))
    swapped = pair(1) | {"chosen": pair(1)["rejected"], "rejected": pair(1)["chosen"]}
    path = jsonl(tmp_path / "eval.jsonl", pair(0), swapped, pair(2, chosen="Another."), pair(9))
    found = overlap(train, load(path))
    assert (found.same, found.prompts, found.n) == (2, 3, 4)
    assert found.first == (f"{path}:1", f"{path}:2")


def test_length_bias_and_its_interval(tmp_path: Path) -> None:
    rows = [pair(i, chosen="long answer here" if i < 30 else "s", rejected="medium") for i in range(40)]
    found = load(jsonl(tmp_path / "d.jsonl", *rows, pair(99, chosen="same", rejected="size")))
    bias = found.summary["length_bias"]
    assert (bias["longer_wins"], bias["n"]) == (0.75, 40)
    # Wilson's interval by hand: centre and half width of 30 successes in 40, z = 1.959964
    z, n, rate = 1.959964, 40, 0.75
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    assert bias["interval"] == pytest.approx([centre - half, centre + half])
    assert not any("longer response wins" in warning for warning in found.warnings)  # the interval reaches below 0.6
    rows = [pair(i, chosen="long answer here", rejected="medium") for i in range(40)]
    assert any("wins 100%" in warning for warning in load(jsonl(tmp_path / "e.jsonl", *rows)).warnings)


def test_lengths_in_characters(tmp_path: Path) -> None:
    rows = [{"prompt": "p" * i, "chosen": "c" * (2 * i), "rejected": "r" * (3 * i)} for i in range(1, 102)]
    characters = load(jsonl(tmp_path / "d.jsonl", *rows)).summary["characters"]
    assert characters["prompt"] == {"mean": 51.0, "p50": 51.0, "p90": 91.0, "p99": 100.0, "max": 101.0}
    assert characters["rejected"]["p90"] == 273.0


def test_label_balance(tmp_path: Path) -> None:
    rows = [{"prompt": "p", "completion": f"c{i}", "label": i < 2} for i in range(5)]
    found = load(jsonl(tmp_path / "d.jsonl", *rows))
    assert found.summary["labels"] == {"desirable": 2, "undesirable": 3}
    assert not found.warnings
    found = load(jsonl(tmp_path / "e.jsonl", *rows[:2]))
    assert any("all 2 labels are desirable" in warning for warning in found.warnings)


def test_scores_that_deny_the_preference(tmp_path: Path) -> None:
    found = load(jsonl(tmp_path / "d.jsonl", pair(1, score_chosen=1, score_rejected=2)))
    assert found[0].edges[0].margin is None
    assert any("against the scores" in warning for warning in found.warnings)


def test_responses_that_repeat_the_prompt(tmp_path: Path) -> None:
    prompt = "What is the capital of Norway?"
    row = {"prompt": prompt, "chosen": f"{prompt} Oslo.", "rejected": f"{prompt} Bergen."}
    assert any("begins with the whole prompt" in w for w in load(jsonl(tmp_path / "d.jsonl", row)).warnings)


def test_shared_start_of_plain_texts_is_told(tmp_path: Path) -> None:
    found = load(jsonl(tmp_path / "d.jsonl", {"chosen": "It is so.", "rejected": "It is not."}))
    assert found[0].prompt == "It is"
    assert any("shared start" in warning for warning in found.warnings)


def test_token_lengths_and_what_a_limit_cuts(tmp_path: Path) -> None:
    rows = [
        {"prompt": "one two three", "chosen": "a b", "rejected": "c"},  # 3 + 2 = 5
        {"prompt": "one two three four", "chosen": "a b", "rejected": "c d e"},  # 4 + 3 = 7
        {"prompt": "one", "chosen": "a b c d e f g", "rejected": "h"},  # 1 + 7 = 8, no room for the prompt
    ]
    path = jsonl(tmp_path / "d.jsonl", *rows)
    found = measure(load(path), lambda text: len(text.split()), 6)
    assert (found.rows, found.over, found.cut, found.no_room) == (3, 2, 3, 1)
    assert found.first == [f"{path}:2", f"{path}:3"]
    summary = found.summary()
    assert summary["total"]["max"] == 8 and summary["response"]["max"] == 7
    assert summary["over_long"]["share"] == pytest.approx(2 / 3)


def test_fingerprint_sees_everything_but_the_place(tmp_path: Path) -> None:
    base = load(jsonl(tmp_path / "a.jsonl", pair(1), pair(2))).fingerprint
    assert load(jsonl(tmp_path / "b.jsonl", pair(1), pair(2))).fingerprint == base
    others = [
        [pair(2), pair(1)],
        [pair(1)],
        [pair(1, weight=2), pair(2)],
        [pair(1, margin=2), pair(2)],
        [pair(1, note="x"), pair(2)],
        [pair(1, id="x"), pair(2)],
    ]
    prints = {load(jsonl(tmp_path / f"{i}.jsonl", *rows)).fingerprint for i, rows in enumerate(others)}
    assert len(prints | {base}) == 7


def test_images_have_no_length_in_characters() -> None:
    found = load("world:shapes?pairs=6").summary
    assert set(found["characters"]) == {"prompt"}
    assert "length_bias" not in found
