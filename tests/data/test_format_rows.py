"""Tiny rows of every format, and the comparison that each is read as."""

from __future__ import annotations

from typing import Any

import pytest

from rather.data import formats
from rather.data.types import Comparison, Edge


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def bot(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


SYSTEM = {"role": "system", "content": "be brief"}
CALL = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "add", "arguments": "{}"}}]}
RESULT = {"role": "tool", "content": "3"}
PAIR = (Edge(0, 1),)
HH = "\n\nHuman: hi\n\nAssistant: hello\n\nHuman: name a bird\n\nAssistant:"

# name: (row, format, prompt, responses, edges)
PAIRS: dict[str, tuple[dict[str, Any], str, Any, tuple[Any, ...], tuple[Edge, ...]]] = {
    "strings": ({"prompt": "p", "chosen": "a", "rejected": "b"}, "pair", "p", ("a", "b"), PAIR),
    "conversational": (
        {"prompt": [SYSTEM, user("p")], "chosen": [bot("a")], "rejected": [bot("b")]},
        "pair",
        (SYSTEM, user("p")),
        ("a", "b"),
        PAIR,
    ),
    "one turn without its list": (
        {"prompt": user("p"), "chosen": bot("a"), "rejected": bot("b")},
        "pair",
        (user("p"),),
        ("a", "b"),
        PAIR,
    ),
    "whole conversations beside a prompt": (
        {
            "prompt": "p",
            "prompt_id": "7f",
            "chosen": [user("p"), bot("a")],
            "rejected": [user("p"), bot("b")],
            "messages": [user("p"), bot("a")],
            "score_chosen": 8.5,
            "score_rejected": 5,
        },
        "pair",
        (user("p"),),
        ("a", "b"),
        (Edge(0, 1, margin=3.5),),
    ),
    "transcript as prompt": (
        {"prompt": HH, "chosen": " a heron", "rejected": " a whale"},
        "pair",
        (user("hi"), bot("hello"), user("name a bird")),
        ("a heron", "a whale"),
        PAIR,
    ),
    "instruction and input": (
        {"instruction": "translate", "input": "bird", "chosen": "Vogel", "rejected": "Wal"},
        "pair",
        "translate\nbird",
        ("Vogel", "Wal"),
        PAIR,
    ),
    "system and question": (
        {"system": "be brief", "question": "p", "chosen": "a", "rejected": "b"},
        "pair",
        (SYSTEM, user("p")),
        ("a", "b"),
        PAIR,
    ),
    "implicit, message lists": (
        {"chosen": [SYSTEM, user("p"), bot("a")], "rejected": [SYSTEM, user("p"), bot("b")]},
        "pair with implicit prompt",
        (SYSTEM, user("p")),
        ("a", "b"),
        PAIR,
    ),
    "implicit, a tool call in common": (
        {"chosen": [user("1+2?"), CALL, RESULT, bot("3")], "rejected": [user("1+2?"), CALL, RESULT, bot("4")]},
        "pair with implicit prompt",
        (user("1+2?"), CALL, RESULT),
        ("3", "4"),
        PAIR,
    ),
    "implicit, one of them calls a tool": (
        {"chosen": [user("1+2?"), CALL, RESULT, bot("3")], "rejected": [user("1+2?"), bot("4")]},
        "pair with implicit prompt",
        (user("1+2?"),),
        ((CALL, RESULT, bot("3")), "4"),
        PAIR,
    ),
    "implicit, transcripts": (
        {"chosen": f"{HH} a heron", "rejected": f"{HH} a whale"},
        "pair with implicit prompt",
        (user("hi"), bot("hello"), user("name a bird")),
        ("a heron", "a whale"),
        PAIR,
    ),
    "implicit, transcripts after odd white space": (
        {"chosen": "\n\n\n Human: hi\n\nAssistant: a", "rejected": "\n\n Human: hi\n\nAssistant: b"},
        "pair with implicit prompt",
        (user("hi"),),
        ("a", "b"),
        PAIR,
    ),
    "implicit, plain texts": (
        {"chosen": "Name a bird: heron", "rejected": "Name a bird: hedgehog"},
        "pair with implicit prompt",
        "Name a bird:",
        (" heron", " hedgehog"),
        PAIR,
    ),
    "swift": (
        {"messages": [SYSTEM, user("p"), bot("a")], "rejected_response": "b"},
        "chat with rejected response",
        (SYSTEM, user("p")),
        ("a", "b"),
        PAIR,
    ),
    "swift, rejected messages": (
        {"messages": [user("p"), bot("a")], "rejected_messages": [user("p"), bot("b")]},
        "chat with rejected response",
        (user("p"),),
        ("a", "b"),
        PAIR,
    ),
    "sharegpt": (
        {
            "conversations": [{"from": "human", "value": "p"}],
            "chosen": {"from": "gpt", "value": "a"},
            "rejected": {"from": "gpt", "value": "b"},
            "system": "be brief",
        },
        "conversation with chosen and rejected",
        (SYSTEM, user("p")),
        ("a", "b"),
        PAIR,
    ),
    "ranking by scores": (
        {"prompt": "p", "responses": ["a", "b", "c"], "scores": [1, 3, 2]},
        "ranking",
        "p",
        ("a", "b", "c"),
        (Edge(1, 0, margin=2.0), Edge(1, 2, margin=1.0), Edge(2, 0, margin=1.0)),
    ),
    "ranking by scores with a tie": (
        {"prompt": "p", "completions": ["a", "b", "c"], "scores": [1, 1, 0]},
        "ranking",
        "p",
        ("a", "b", "c"),
        (Edge(0, 2, margin=1.0), Edge(1, 2, margin=1.0)),
    ),
    "ranking by ranks": (
        {"prompt": [user("p")], "responses": [[bot("a")], [bot("b")]], "ranks": [2, 1]},
        "ranking",
        (user("p"),),
        ("a", "b"),
        (Edge(1, 0),),
    ),
    "ultrafeedback": (
        {
            "instruction": "p",
            "source": "s",
            "completions": [
                {"model": "m", "response": "a", "overall_score": 6.5},
                {"model": "n", "response": "b", "overall_score": 7.0},
            ],
        },
        "ranking",
        "p",
        ("a", "b"),
        (Edge(1, 0, margin=0.5),),
    ),
    "completions with rank": (
        {
            "context": [user("p")],
            "completions": [{"rank": 1, "completion": [bot("b")]}, {"rank": 0, "completion": [bot("a")]}],
        },
        "ranking",
        (user("p"),),
        ("b", "a"),
        (Edge(1, 0),),
    ),
    "negatives beside chosen": (
        {"prompt": "p", "chosen": "a", "rejected": ["b", "c"]},
        "one positive, many negatives",
        "p",
        ("a", "b", "c"),
        (Edge(0, 1), Edge(0, 2)),
    ),
    "negatives as message lists": (
        {"prompt": [user("p")], "chosen": [bot("a")], "rejected": [[bot("b")], [bot("c")]]},
        "one positive, many negatives",
        (user("p"),),
        ("a", "b", "c"),
        (Edge(0, 1), Edge(0, 2)),
    ),
    "history, positive, negatives": (
        {"history": ["boots", "hat"], "positive": "scarf", "negatives": ["anvil", "kite"]},
        "one positive, many negatives",
        "boots\nhat",
        ("scarf", "anvil", "kite"),
        (Edge(0, 1), Edge(0, 2)),
    ),
    "completion without label": ({"prompt": "p", "completion": "a"}, "demonstration", "p", ("a",), ()),
    "messages": (
        {"messages": [user("p"), bot("a"), user("q"), bot("b")]},
        "demonstration",
        (user("p"), bot("a"), user("q")),
        ("b",),
        (),
    ),
    "prompts alone": ({"prompt": "p"}, "prompt only", "p", (), ()),
    "text alone": ({"text": "a"}, "plain text", "", ("a",), ()),
}


@pytest.mark.parametrize("name", PAIRS)
def test_row_is_read_as(name: str, given: Any) -> None:
    row, form, prompt, responses, edges = PAIRS[name]
    found = given(row)
    assert found.summary["format"] == form
    assert (found[0].prompt, found[0].responses, found[0].edges) == (prompt, responses, edges)
    assert found[0].desirable == ()


MARKED = {"prompt": "p", "completion": "a"}


@pytest.mark.parametrize(
    ("label", "wanted"),
    [(True, True), (False, False), (1, True), (0, False), (-1, False), (1.0, True), ("True", True), (" bad ", False)],
)
def test_unpaired_feedback(label: Any, wanted: bool, given: Any) -> None:
    found = given(MARKED | {"label": label})
    assert found.summary["format"] == "unpaired feedback"
    assert (found[0].responses, found[0].edges, found[0].desirable) == (("a",), (), (wanted,))


def test_unpaired_chat(given: Any) -> None:
    found = given({"messages": [user("p"), bot("a")], "label": False})[0]
    assert (found.prompt, found.responses, found.desirable) == ((user("p"),), ("a",), (False,))


@pytest.mark.parametrize(("labels", "wanted"), [([True, True], True), ([True, False], False)])
def test_stepwise_feedback(labels: list[bool], wanted: bool, given: Any) -> None:
    found = given({"prompt": "1+2?", "completions": ["1+2", "= 3"], "labels": labels})[0]
    assert (found.responses, found.desirable) == (("1+2\n= 3",), (wanted,))


def test_every_format_of_the_table_is_tested_here(given: Any) -> None:
    tested = {form for _, form, *_ in PAIRS.values()} | {"unpaired feedback", "stepwise feedback", "image pair"}
    assert tested == {form.name for form in formats.FORMATS}


class TestOptionalColumns:
    row = {"prompt": "p", "chosen": "a", "rejected": "b"}  # noqa: RUF012

    def test_of_an_edge(self, given: Any) -> None:
        found = given(self.row | {"margin": 0.5, "probability": 0.9, "weight": 2})[0]
        assert found.edges == (Edge(0, 1, weight=2.0, probability=0.9, margin=0.5),)
        assert not found.extras

    def test_one_value_for_each_edge(self, given: Any) -> None:
        row = {
            "prompt": "p",
            "responses": ["a", "b", "c"],
            "ranks": [1, 2, 3],
            "weight": [1, 2, 3],
            "probability": 0.8,
        }
        found = given(row)[0]
        assert [(e.winner, e.loser, e.weight, e.probability) for e in found.edges] == [
            (0, 1, 1.0, 0.8),
            (0, 2, 2.0, 0.8),
            (1, 2, 3.0, 0.8),
        ]

    def test_margin_given_goes_before_that_of_scores(self, given: Any) -> None:
        row = {"prompt": "p", "responses": ["a", "b"], "scores": [3, 1], "margin": 9}
        assert given(row)[0].edges == (Edge(0, 1, margin=9.0),)

    def test_scores_are_kept(self, given: Any) -> None:
        assert given({"prompt": "p", "responses": ["a", "b"], "scores": [3, 1]})[0].scores == (3.0, 1.0)
        assert given({"prompt": "p", "responses": ["a", "b"], "ranks": [3, 1]})[0].scores == ()

    def test_anything_else_is_kept_as_it_is(self, given: Any) -> None:
        more = {"rationale": "shorter", "annotator": "ann", "tools": [{"name": "add"}], "ref_chosen_logps": -3.5}
        assert given(self.row | more | {"nothing": None})[0].extras == more

    @pytest.mark.parametrize(("id", "read"), [("x7", "x7"), (7, "7"), (0, "0")])
    def test_id(self, id: object, read: str, given: Any) -> None:
        assert given(self.row | {"id": id})[0].id == read

    def test_empty_id_is_none(self, given: Any) -> None:
        assert given(self.row | {"id": ""})[0].id == given(self.row)[0].id


def test_edges_of_the_best_alone(given: Any) -> None:
    row = {"prompt": "p", "responses": ["a", "b", "c"], "ranks": [2, 1, 3]}
    assert given(row, edges="best_vs_rest")[0].edges == (Edge(1, 0), Edge(1, 2))


def test_messages_of_other_trainers(given: Any) -> None:
    row = {"conversations": [{"from": "human", "value": "p"}, {"from": "gpt", "value": "a", "weight": None}]}
    assert given(row)[0].prompt == (user("p"),)


def test_answers_of_several_turns_make_the_prompt_a_conversation(given: Any) -> None:
    found: Comparison = given({"prompt": "1+2?", "chosen": [CALL, RESULT, bot("3")], "rejected": "4"})[0]
    assert found.prompt == (user("1+2?"),)
    assert found.responses == ((CALL, RESULT, bot("3")), "4")


def test_same_columns_with_other_values_are_read_each_by_its_own(given: Any) -> None:
    found = given(
        {"prompt": "p", "chosen": "a", "rejected": "b"},
        {"prompt": "p", "chosen": "a", "rejected": ["b", "c"]},
    )
    assert [len(c.edges) for c in found] == [1, 2]
