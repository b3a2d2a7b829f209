"""Good rows written out read back as the same comparisons."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rather.data.load import load
from rather.data.store import from_json, to_json
from rather.data.types import Comparison, Edge, Source
from rather.data.writing import to_row, write_jsonl
from rather.errors import UserError
from rows import assistant, jsonl, user

U, A, B = user("Hi"), assistant("Hello!"), assistant("Go away.")
CALL = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "now", "arguments": "{}"}}]}
ROWS: list[dict[str, Any]] = [
    {
        "prompt": "p",
        "chosen": "a",
        "rejected": "b",
        "weight": 2.0,
        "probability": 0.5,
        "margin": -1.0,
        "note": {"x": 1},
    },
    {"prompt": "p", "chosen": "a", "rejected": "b", "score_chosen": 2, "score_rejected": 1},
    {"prompt": "p", "chosen": "a", "rejected": "b", "score_chosen": 2, "score_rejected": 1, "margin": 9},
    {"chosen": [U, CALL, {"role": "tool", "content": "x"}, A], "rejected": [U, B]},
    {"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"},
    {"chosen": "It is so.", "rejected": "It is not."},
    {"prompt": "p", "responses": ["a", "b", "c"], "scores": [1, 2, 2]},
    {"prompt": "p", "responses": ["a", "b", "c"], "ranks": [2, 1, 2], "weight": [0.5, 1.5]},
    {"prompt": [U], "chosen": [A], "rejected": [[B], "x"]},
    {"history": ["one", "two"], "positive": "a", "negatives": ["b"]},
    {"prompt": "p", "completion": "a", "label": False},
    {"messages": [U, A], "label": True},
    {"messages": [U, A]},
    {"text": "words"},
    {"prompt": "p"},
    {"messages": [U, A], "rejected_response": "No."},
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: " ".join(row))
def test_round_trip(tmp_path: Path, row: dict[str, Any]) -> None:
    before = load(jsonl(tmp_path / "a.jsonl", row))
    assert write_jsonl(before, tmp_path / "b.jsonl") == 1
    after = load(tmp_path / "b.jsonl")
    assert replace(after[0], source=None) == replace(before[0], source=None)
    assert after.fingerprint == before.fingerprint
    assert from_json(to_json(before[0])) == before[0]


words = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20).filter(lambda text: bool(text.strip()))
numbers = st.floats(-1e6, 1e6)


@settings(max_examples=100, deadline=None)
@given(words, st.lists(words, min_size=2, max_size=5, unique=True), st.data())
def test_rankings_round_trip(
    tmp_path_factory: pytest.TempPathFactory, prompt: str, responses: list[str], data: Any
) -> None:
    values = data.draw(st.lists(st.integers(0, 3), min_size=len(responses), max_size=len(responses)))
    values[0] = 9
    key = data.draw(st.sampled_from(["scores", "ranks"]))
    folder = tmp_path_factory.mktemp("ranking")
    before = load(jsonl(folder / "a.jsonl", {"prompt": prompt, "responses": responses, key: values}))
    wanted = {
        (i, j) for i, a in enumerate(values) for j, b in enumerate(values) if (a > b if key == "scores" else a < b)
    }
    assert {(edge.winner, edge.loser) for edge in before[0].edges} == wanted
    write_jsonl(before, folder / "b.jsonl")
    after = load(folder / "b.jsonl")
    said = [{(c.responses[e.winner], c.responses[e.loser], e.margin) for e in c.edges} for c in (before[0], after[0])]
    assert said[0] == said[1]
    assert (after[0].prompt, after[0].id) == (before[0].prompt, before[0].id)


def test_bytes_survive_the_store_but_not_json() -> None:
    comparison = Comparison("x", "p", (b"\x89PNG\xff", b"2"), (Edge(0, 1),), extras={"n": b"3"}, source=Source("d", 1))
    assert from_json(to_json(comparison)) == comparison
    with pytest.raises(UserError, match="cannot be written as JSON") as caught:
        to_row(comparison)
    assert caught.value.where == "d:1"


def test_an_order_that_is_no_ranking() -> None:
    cycle = Comparison("x", "p", ("a", "b", "c"), (Edge(0, 1), Edge(1, 2), Edge(2, 0)))
    with pytest.raises(UserError, match="not those of a ranking"):
        to_row(cycle)


def test_nothing_is_left_half_written(tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"
    target.write_text("before")
    good = Comparison("x", "p", ("a", "b"), (Edge(0, 1),))
    with pytest.raises(UserError):
        write_jsonl([good, replace(good, responses=(b"1", b"2"))], target)
    assert target.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]
    with pytest.raises(UserError, match="cannot be written"):
        write_jsonl([good], tmp_path / "nowhere" / "out.jsonl")
