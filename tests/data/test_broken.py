"""Broken data: each row is refused by name and place, and the good rows around it are kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rather.data.load import load
from rather.errors import UserError

GOOD = {"prompt": "p", "chosen": "a", "rejected": "b"}
OTHER = {"prompt": "q", "chosen": "a", "rejected": "b"}
USER, BOT, BOT2 = (
    {"role": role, "content": text} for role, text in (("user", "u"), ("assistant", "a"), ("assistant", "b"))
)
RANKING = {"prompt": "p", "responses": ["a", "b"], "scores": [2, 1]}
MANY = {"prompt": "p", "chosen": "a", "rejected": ["b", "c"]}
MARKED = {"prompt": "p", "completion": "a", "label": True}
IMPLICIT = {"chosen": [USER, BOT], "rejected": [USER, BOT2]}
SWIFT = {"messages": [USER, BOT], "rejected_response": "b"}


def line(value: Any) -> bytes:
    return json.dumps(value).encode()


# A good row of the format, the bytes of a broken line after it, the code, and a part of the reason.
LINES: dict[str, tuple[dict[str, Any], bytes, str, str]] = {
    "no JSON": (GOOD, b'{"prompt": "p", chosen: "a"}', "not-json", "column 17"),
    "cut off": (GOOD, line(OTHER)[:30], "not-json", "not valid JSON"),
    "two objects in a line": (GOOD, line(OTHER) + line(OTHER), "not-json", "Extra data"),
    "single quotes": (GOOD, b"{'prompt': 'p', 'chosen': 'a', 'rejected': 'b'}", "not-json", "double quotes"),
    "nested too deeply": (GOOD, b"[" * 100_000, "not-json", "too deeply"),
    "number of too many digits": (GOOD, line(OTHER)[:-1] + b', "margin": ' + b"9" * 5000 + b"}", "not-json", "digits"),
    "Latin-1": (GOOD, '{"prompt": "Grüße", "chosen": "a", "rejected": "b"}'.encode("latin-1"), "not-utf8", "byte 15"),
    "half a surrogate pair": (GOOD, line(OTHER | {"chosen": "\ud83d"}), "not-unicode", "chosen"),
    "a list": (GOOD, b'["p", "a", "b"]', "not-an-object", "list"),
    "a text": (GOOD, b'"p"', "not-an-object", "str"),
    "null": (GOOD, b"null", "not-an-object", "NoneType"),
}
# A good row of the format, what a broken row changes (... removes the column), the code, and a part of the reason.
CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any], str, str]] = {
    "no rejected": (GOOD, {"rejected": ...}, "missing-field", "rejected"),
    "no prompt": (GOOD, {"prompt": ...}, "mixed-formats", "missing"),
    "no column at all": (GOOD, {"prompt": ..., "chosen": ..., "rejected": ...}, "missing-field", "prompt"),
    "another format": (GOOD, {"chosen": ..., "rejected": ..., "completion": "a"}, "mixed-formats", "demonstration"),
    "prompt null": (GOOD, {"prompt": None}, "missing-field", "prompt is missing"),
    "prompt blank": (GOOD, {"prompt": " \n"}, "empty-field", "prompt is empty"),
    "prompt a number": (GOOD, {"prompt": 7}, "wrong-type", "prompt is a int"),
    "prompt an empty list": (GOOD, {"prompt": []}, "empty-field", "prompt"),
    "prompt of a system turn alone": (GOOD, {"prompt": [{"role": "system", "content": "s"}]}, "no-prompt", "system"),
    "prompt of an empty turn": (GOOD, {"prompt": [{"role": "user", "content": " "}]}, "empty-field", "prompt"),
    "chosen null": (GOOD, {"chosen": None}, "missing-field", "chosen is missing"),
    "chosen empty": (GOOD, {"chosen": ""}, "empty-field", "chosen is empty"),
    "rejected blank": (GOOD, {"rejected": "\t"}, "empty-field", "rejected is empty"),
    "rejected an empty turn": (GOOD, {"rejected": [{"role": "assistant", "content": ""}]}, "empty-field", "rejected"),
    "chosen a number": (GOOD, {"chosen": 1.5}, "wrong-type", "chosen is a float"),
    "chosen a list of texts": (GOOD, {"chosen": ["a", "c"]}, "wrong-type", "chosen"),
    "both the same": (GOOD, {"chosen": "b"}, "equal", "the same"),
    "turn without role": (GOOD, {"chosen": [{"content": "a"}]}, "missing-role", "chosen"),
    "turn with unknown role": (GOOD, {"chosen": [{"role": "Bot 9", "content": "a"}]}, "unknown-role", "'Bot 9'"),
    "turn without content": (GOOD, {"chosen": [{"role": "assistant"}]}, "wrong-type", "without text"),
    "turn that is a text": (GOOD, {"chosen": [BOT, "a"]}, "wrong-type", "str"),
    "answer by the user": (GOOD, {"chosen": [USER], "rejected": [USER]}, "not-assistant", "'user'"),
    "answer by the user at the end": (GOOD, {"chosen": [BOT, USER]}, "not-assistant", "'user'"),
    "prompt column unlike the lists": (
        GOOD,
        {"prompt": "x", "chosen": [USER, BOT], "rejected": [USER, BOT2]},
        "prompts-differ",
        "another prompt",
    ),
    "probability above one": (GOOD, {"probability": 1.2}, "out-of-range", "probability is 1.2"),
    "negative weight": (GOOD, {"weight": -1}, "out-of-range", "weight is -1"),
    "margin not a number": (GOOD, {"margin": "much"}, "wrong-type", "'much'"),
    "margin true": (GOOD, {"margin": True}, "wrong-type", "bool"),
    "margin NaN": (GOOD, {"margin": float("nan")}, "not-finite", "nan"),
    "margin infinite": (GOOD, {"margin": float("inf")}, "not-finite", "inf"),
    "margin beyond a float": (GOOD, {"margin": 10**400}, "not-finite", "margin"),
    "weights for other edges": (GOOD, {"weight": [1, 2]}, "ragged-lists", "2 values for 1"),
    "id an object": (GOOD, {"id": {"a": 1}}, "wrong-type", "id is a dict"),
    "id true": (GOOD, {"id": True}, "wrong-type", "id is a bool"),
    "id with half a surrogate pair": (GOOD, {"id": "\ud83d"}, "not-unicode", "id"),
    "scores one short": (RANKING, {"scores": [1]}, "ragged-lists", "2 responses but 1 scores"),
    "scores all equal": (RANKING, {"scores": [1, 1]}, "tied", "equal"),
    "score null": (RANKING, {"scores": [1, None]}, "missing-field", "scores[1]"),
    "score a word": (RANKING, {"scores": [1, "good"]}, "wrong-type", "scores[1]"),
    "score NaN": (RANKING, {"scores": [1, float("nan")]}, "not-finite", "scores[1]"),
    "scores a number": (RANKING, {"scores": 3}, "wrong-type", "scores is a int"),
    "scores null": (RANKING, {"scores": None}, "missing-field", "scores"),
    "one response": (RANKING, {"responses": ["a"], "scores": [1]}, "too-few", "two"),
    "no responses": (RANKING, {"responses": [], "scores": []}, "too-few", "two"),
    "responses a text": (RANKING, {"responses": "ab"}, "wrong-type", "responses is a str"),
    "a response empty": (RANKING, {"responses": ["a", ""]}, "empty-field", "responses[1]"),
    "a response twice": (RANKING, {"responses": ["a", "a"]}, "equal", "twice"),
    "responses of two kinds": (
        RANKING,
        {"responses": [{"text": "a", "score": 1}, "b"], "scores": None},
        "wrong-type",
        "some responses are objects",
    ),
    "no negatives": (MANY, {"rejected": []}, "empty-field", "no negatives"),
    "positive among negatives": (MANY, {"rejected": ["a", "b"]}, "equal", "positive"),
    "a negative twice": (MANY, {"rejected": ["b", "b"]}, "repeated-response", "twice"),
    "a negative null": (MANY, {"rejected": ["b", None]}, "missing-field", "negatives"),
    "label null": (MARKED, {"label": None}, "missing-field", "label"),
    "label a half": (MARKED, {"label": 0.5}, "bad-label", "0.5"),
    "label a word": (MARKED, {"label": "meh"}, "bad-label", "'meh'"),
    "completion empty": (MARKED, {"completion": ""}, "empty-field", "completion"),
    "prompts differ": (IMPLICIT, {"chosen": [BOT, USER, BOT]}, "prompts-differ", "turn 1"),
    "nothing in common": (IMPLICIT, {"chosen": "left", "rejected": "right"}, "no-prompt", "no start in common"),
    "one transcript": (
        IMPLICIT,
        {"chosen": "\n\nHuman: u\n\nAssistant: a", "rejected": "b"},
        "prompts-differ",
        "transcript",
    ),
    "transcript without an answer": (
        IMPLICIT,
        {"chosen": "\n\nHuman: u\n\nAssistant: a", "rejected": "\n\nHuman: u\n\nAssistant:"},
        "empty-field",
        "rejected",
    ),
    "ends with the user": (IMPLICIT, {"chosen": [USER, BOT, USER]}, "not-assistant", "chosen ends"),
    "the user said nothing": (IMPLICIT, {"chosen": [BOT], "rejected": [BOT2]}, "no-prompt", "before"),
    "one empty list": (IMPLICIT, {"rejected": []}, "empty-field", "rejected"),
    "messages end with the user": (SWIFT, {"messages": [USER, BOT, USER]}, "not-assistant", "messages ends"),
    "rejected response null": (SWIFT, {"rejected_response": None}, "missing-field", "rejected"),
}


def changed(row: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in (row | change).items() if value is not ...}


BROKEN = LINES | {name: (row, line(changed(row, change)), *why) for name, (row, change, *why) in CHANGES.items()}


def again(row: dict[str, Any]) -> dict[str, Any]:
    """A second good row of the same format."""
    return json.loads(json.dumps(row).replace('"a"', '"another"'))


def write(path: Path, *lines: bytes) -> Path:
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


@pytest.mark.parametrize("name", BROKEN)
def test_row_is_refused_and_the_others_are_kept(name: str, tmp_path: Path) -> None:
    row, broken, code, says = BROKEN[name]
    path = write(tmp_path / "data.jsonl", line(row), broken, line(again(row)))
    found = load(path)
    assert [(refusal.code, str(refusal.source)) for refusal in found.refused] == [(code, f"{path}:2")]
    assert says in found.refused[0].reason
    assert [c.source.row for c in found if c.source] == [1, 3]
    assert found.summary["refused_by_reason"][code]["first"] == [f"{path}:2"]


@pytest.mark.parametrize("name", BROKEN)
def test_strict_stops_there(name: str, tmp_path: Path) -> None:
    row, broken, _, says = BROKEN[name]
    path = write(tmp_path / "data.jsonl", line(row), broken, line(again(row)))
    with pytest.raises(UserError) as caught:
        load(path, strict=True)
    assert caught.value.where == f"{path}:2"
    assert says in caught.value.what


@pytest.mark.parametrize("name", BROKEN)
def test_good_rows_behind_a_broken_first_row_are_kept(name: str, tmp_path: Path) -> None:
    row, broken, code, _ = BROKEN[name]
    path = write(tmp_path / "data.jsonl", broken, line(row), line(again(row)))
    found = load(path)
    assert [(refusal.code, refusal.source.row) for refusal in found.refused] == [(code, 1)]
    assert [c.source.row for c in found if c.source] == [2, 3]


def test_all_rows_broken(tmp_path: Path) -> None:
    path = write(tmp_path / "data.jsonl", line(GOOD | {"chosen": ""}), b"{", line(GOOD | {"chosen": "b"}))
    with pytest.raises(UserError, match="no row can be used; 3 were refused") as caught:
        load(path)
    for place in ("data.jsonl:1: chosen is empty", "data.jsonl:2: not valid JSON", "data.jsonl:3: chosen and"):
        assert place in str(caught.value)


def test_many_broken_rows_before_the_first_good_one(tmp_path: Path) -> None:
    path = write(tmp_path / "data.jsonl", *[b"{"] * 250, line(GOOD))
    found = load(path)
    assert len(found.refused) == 250
    assert [refusal.source.row for refusal in found.refused] == list(range(1, 251))
    assert len(found) == 1


def test_misspelt_columns_are_recognised(tmp_path: Path) -> None:
    path = write(tmp_path / "data.jsonl", line({"prompt": "p", "choosen": "a", "rejectd": "b"}))
    with pytest.raises(UserError, match="no known format") as caught:
        load(path)
    assert caught.value.where == str(path)
    assert "did you mean 'chosen'?" in str(caught.value.fix)
    assert "did you mean 'rejected'?" in str(caught.value.fix)
