"""Every format, from a file of one row to the comparison it stands for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rather.data.formats import FORMATS
from rather.data.load import load
from rather.data.types import Comparison, Edge
from rows import assistant, jsonl, user

U, A, B = user("Hi"), assistant("Hello!"), assistant("Go away.")
SYSTEM = {"role": "system", "content": "Be kind."}
PNG, JPEG = b"\x89PNG\r\n\x1a\nrest", b"\xff\xd8\xff\xe0rest"
TRANSCRIPT = "\n\nHuman: Hi\n\nAssistant: Hello!\n\nHuman: More\n\nAssistant:"
TURNS = (U, A, user("More"))

# Rows whose comparison is one edge from the first response to the second: name, row, format, prompt, responses.
PAIRS: list[tuple[str, dict[str, Any], str, Any, tuple[Any, ...]]] = [
    ("strings", {"prompt": "Hi", "chosen": "Hello!", "rejected": "No."}, "pair", "Hi", ("Hello!", "No.")),
    ("instruction", {"instruction": "Add", "input": "1 2", "chosen": "3", "rejected": "4"}, "pair", "Add\n1 2", ("3", "4")),
    ("question and system", {"system": "Be kind.", "question": "Hi", "chosen": "a", "rejected": "b"}, "pair", (SYSTEM, U), ("a", "b")),
    ("alpaca history", {"instruction": "More", "input": "", "history": [["Hi", "Hello!"]], "chosen": "a", "rejected": "b"}, "pair", TURNS, ("a", "b")),
    ("messages", {"prompt": [U], "chosen": [A], "rejected": [B]}, "pair", (U,), ("Hello!", "Go away.")),
    ("single messages", {"prompt": U, "chosen": A, "rejected": B}, "pair", (U,), ("Hello!", "Go away.")),
    ("message prompt, string answers", {"prompt": [U], "chosen": "a", "rejected": "b"}, "pair", (U,), ("a", "b")),
    ("string prompt, assistant lists", {"prompt": "Hi", "chosen": [A], "rejected": [B]}, "pair", (U,), ("Hello!", "Go away.")),
    ("lists repeat the prompt", {"prompt": [U], "chosen": [U, A], "rejected": [U, B]}, "pair", (U,), ("Hello!", "Go away.")),
    ("lists lack the system turn", {"prompt": [SYSTEM, U], "chosen": [U, A], "rejected": [U, B]}, "pair", (SYSTEM, U), ("Hello!", "Go away.")),
    ("ultrafeedback binarized", {"prompt": "Hi", "prompt_id": "x", "chosen": [U, A], "rejected": [U, B], "messages": [U, A]}, "pair", (U,), ("Hello!", "Go away.")),
    ("first of many user turns", {"prompt": "Hi", "chosen": [*TURNS, A], "rejected": [*TURNS, B]}, "pair", TURNS, ("Hello!", "Go away.")),
    ("transcript prompt", {"prompt": TRANSCRIPT, "chosen": " a", "rejected": " b"}, "pair", TURNS, ("a", "b")),
    ("transcript everywhere", {"prompt": TRANSCRIPT, "chosen": TRANSCRIPT + " a", "rejected": TRANSCRIPT + " b"}, "pair", TURNS, ("a", "b")),
    ("implicit messages", {"chosen": [SYSTEM, U, A], "rejected": [SYSTEM, U, B]}, "pair with implicit prompt", (SYSTEM, U), ("Hello!", "Go away.")),
    ("implicit transcripts", {"chosen": TRANSCRIPT + " a", "rejected": TRANSCRIPT + " b"}, "pair with implicit prompt", TURNS, ("a", "b")),
    ("implicit texts", {"chosen": "The sky is blue.", "rejected": "The sky is green."}, "pair with implicit prompt", "The sky is", (" blue.", " green.")),
    ("swift", {"messages": [U, A], "rejected_response": "No."}, "chat with rejected response", (U,), ("Hello!", "No.")),
    ("swift messages", {"messages": [U, A], "rejected_messages": [U, B]}, "chat with rejected response", (U,), ("Hello!", "Go away.")),
    ("sharegpt", {"conversations": [{"from": "human", "value": "Hi"}], "chosen": {"from": "gpt", "value": "a"}, "rejected": {"from": "gpt", "value": "b"}}, "conversation with chosen and rejected", (U,), ("a", "b")),
    ("sharegpt with system", {"system": "Be kind.", "conversations": [{"from": "human", "value": "Hi"}], "chosen": {"from": "gpt", "value": "a"}, "rejected": {"from": "gpt", "value": "b"}}, "conversation with chosen and rejected", (SYSTEM, U), ("a", "b")),
]  # fmt: skip


def only(path: Path, **options: Any) -> tuple[Comparison, str]:
    found = load(path, **options)
    assert len(found) == 1 and not found.refused, [str(refusal) for refusal in found.refused]
    return found[0], found.summary["format"]


@pytest.mark.parametrize(("name", "row", "form", "prompt", "responses"), PAIRS, ids=[case[0] for case in PAIRS])
def test_pairs(tmp_path: Path, name: str, row: dict[str, Any], form: str, prompt: Any, responses: Any) -> None:
    comparison, found = only(jsonl(tmp_path / "d.jsonl", row))
    assert (found, comparison.prompt, comparison.responses) == (form, prompt, responses)
    assert comparison.edges == (Edge(0, 1),)


def test_a_shared_tool_call_belongs_to_the_prompt(tmp_path: Path) -> None:
    call = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "now", "arguments": "{}"}}]}
    result = {"role": "tool", "content": "noon"}
    row = {"chosen": [U, call, result, A], "rejected": [U, call, result, B], "tools": [{"name": "now"}]}
    comparison, _ = only(jsonl(tmp_path / "d.jsonl", row))
    assert comparison.prompt == (U, call, result)
    assert comparison.responses == ("Hello!", "Go away.")
    assert comparison.extras == {"tools": [{"name": "now"}]}


def test_different_tool_calls_belong_to_the_responses(tmp_path: Path) -> None:
    call = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "now", "arguments": "{}"}}]}
    result = {"role": "tool", "content": "noon"}
    comparison, _ = only(jsonl(tmp_path / "d.jsonl", {"chosen": [U, call, result, A], "rejected": [U, B]}))
    assert comparison.prompt == (U,)
    assert comparison.responses == ((call, result, A), "Go away.")


@pytest.mark.parametrize("name", ["scores", "ratings", "rewards"])
def test_scores_give_an_edge_for_every_strict_order(tmp_path: Path, name: str) -> None:
    comparison, form = only(
        jsonl(tmp_path / "d.jsonl", {"prompt": "p", "responses": ["a", "b", "c"], name: [1, 3, 1]})
    )
    assert form == "ranking"
    assert comparison.edges == (Edge(1, 0, margin=2.0), Edge(1, 2, margin=2.0))
    assert comparison.scores == (1.0, 3.0, 1.0)
    assert comparison.extras == {}


def test_ranks_are_better_when_smaller(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "d.jsonl", {"prompt": "p", "responses": ["a", "b", "c"], "ranks": [3, 1, 2]})
    comparison, _ = only(path)
    assert {(e.winner, e.loser) for e in comparison.edges} == {(1, 2), (1, 0), (2, 0)}
    assert comparison.scores == ()
    best, _ = only(path, edges="best_vs_rest")
    assert {(e.winner, e.loser) for e in best.edges} == {(1, 0), (1, 2)}


def test_completions_that_carry_their_score(tmp_path: Path) -> None:
    completions = [{"response": "a", "overall_score": 7.5, "model": "m"}, {"response": "b", "overall_score": 2}]
    comparison, form = only(jsonl(tmp_path / "d.jsonl", {"instruction": "p", "completions": completions}))
    assert (form, comparison.prompt, comparison.responses) == ("ranking", "p", ("a", "b"))
    assert comparison.edges == (Edge(0, 1, margin=5.5),)


def test_context_with_ranked_completions(tmp_path: Path) -> None:
    completions = [{"rank": 1, "completion": [B]}, {"rank": 0, "completion": [A]}]
    comparison, _ = only(jsonl(tmp_path / "d.jsonl", {"context": [U], "completions": completions}))
    assert (comparison.prompt, comparison.responses) == ((U,), ("Go away.", "Hello!"))
    assert comparison.edges == (Edge(1, 0),)


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({"prompt": "p", "chosen": "a", "rejected": ["b", "c"]}, "p"),
        ({"prompt": "p", "positive": "a", "negatives": ["b", "c"]}, "p"),
        ({"prompt": [U], "chosen": [A], "rejected": [[B], [assistant("x")]]}, (U,)),
        ({"history": ["one", "two"], "positive": "a", "negatives": ["b", "c"]}, "one\ntwo"),
    ],
)
def test_one_positive_many_negatives(tmp_path: Path, row: dict[str, Any], prompt: Any) -> None:
    comparison, form = only(jsonl(tmp_path / "d.jsonl", row))
    assert (form, comparison.prompt) == ("one positive, many negatives", prompt)
    assert len(comparison.responses) == 3
    assert comparison.edges == (Edge(0, 1), Edge(0, 2))


@pytest.mark.parametrize(("label", "wanted"), [(True, True), (0, False), (1.0, True), ("false", False), (-1, False)])
def test_unpaired(tmp_path: Path, label: Any, wanted: bool) -> None:
    comparison, form = only(jsonl(tmp_path / "d.jsonl", {"prompt": "p", "completion": "a", "label": label}))
    assert (form, comparison.desirable, comparison.edges) == ("unpaired feedback", (wanted,), ())
    chat, _ = only(jsonl(tmp_path / "e.jsonl", {"messages": [U, A], "label": label}))
    assert (chat.prompt, chat.responses, chat.desirable) == ((U,), ("Hello!",), (wanted,))


def test_stepwise(tmp_path: Path) -> None:
    row = {"prompt": "p", "completions": ["one", "two"], "labels": [True, False]}
    comparison, form = only(jsonl(tmp_path / "d.jsonl", row))
    assert (form, comparison.responses, comparison.desirable) == ("stepwise feedback", ("one\ntwo",), (False,))


@pytest.mark.parametrize(
    ("row", "prompt", "responses", "form"),
    [
        ({"prompt": "p", "completion": "a"}, "p", ("a",), "demonstration"),
        ({"instruction": "p", "input": "", "output": "a"}, "p", ("a",), "demonstration"),
        ({"messages": [SYSTEM, U, A]}, (SYSTEM, U), ("Hello!",), "demonstration"),
        ({"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "a"}]}, (U,), ("a",), "demonstration"),
        ({"text": "Once upon a time"}, "", ("Once upon a time",), "plain text"),
        ({"prompt": "p"}, "p", (), "prompt only"),
    ],
)  # fmt: skip
def test_rows_without_a_preference(
    tmp_path: Path, row: dict[str, Any], prompt: Any, responses: Any, form: str
) -> None:
    comparison, found = only(jsonl(tmp_path / "d.jsonl", row))
    assert (comparison.prompt, comparison.responses, found) == (prompt, responses, form)
    assert comparison.edges == () and comparison.desirable == ()


def test_judged_images_from_parquet(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = {"jpg_0": [PNG, PNG], "jpg_1": [JPEG, JPEG], "label_0": [1.0, 0.0], "caption": ["a cat", "a dog"]}
    datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "d.parquet")
    found = load(tmp_path / "d.parquet")
    assert found.summary["format"] == "image pair"
    assert [c.prompt for c in found] == ["a cat", "a dog"]
    assert [c.responses for c in found] == [(PNG, JPEG), (JPEG, PNG)]


def test_image_columns_keep_their_bytes(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    image = pytest.importorskip("PIL.Image")
    features = datasets.Features(
        {"prompt": datasets.Value("string"), "chosen": datasets.Image(), "rejected": datasets.Image()}
    )
    pictures = [image.new("RGB", (2, 2), colour) for colour in ("red", "blue")]
    data = datasets.Dataset.from_dict({"prompt": ["red"], "chosen": pictures[:1], "rejected": pictures[1:]}, features)
    data.save_to_disk(tmp_path / "saved")
    comparison, form = only(tmp_path / "saved")
    assert form == "image pair"
    assert all(response.startswith(b"\x89PNG") for response in comparison.responses)


def test_image_paths_are_relative_to_the_file_and_ids_to_neither(tmp_path: Path) -> None:
    ids = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        folder.mkdir()
        (folder / "a.png").write_bytes(PNG)
        (folder / "b.png").write_bytes(PNG + b"2")
        comparison, form = only(jsonl(folder / "d.jsonl", {"prompt": "cat", "chosen": "a.png", "rejected": "b.png"}))
        assert form == "image pair"
        assert comparison.responses == (str(folder / "a.png"), str(folder / "b.png"))
        ids.append(comparison.id)
    assert ids[0] == ids[1]


def test_optional_columns(tmp_path: Path) -> None:
    row = {"prompt": "p", "chosen": "a", "rejected": "b", "id": 7, "weight": 2, "probability": 0.75, "margin": 1.5}
    more = {"rationale": "shorter", "annotator": "x", "ref_chosen_logps": -3.5, "tools": None}
    comparison, _ = only(jsonl(tmp_path / "d.jsonl", {**row, **more}))
    assert comparison.id == "7"
    assert comparison.edges == (Edge(0, 1, 2.0, 0.75, 1.5),)
    assert comparison.extras == {"rationale": "shorter", "annotator": "x", "ref_chosen_logps": -3.5}


def test_scores_of_a_pair_give_its_margin(tmp_path: Path) -> None:
    row = {"prompt": "p", "chosen": "a", "rejected": "b", "score_chosen": 8.0, "score_rejected": 5.5}
    comparison, _ = only(jsonl(tmp_path / "d.jsonl", row))
    assert (comparison.scores, comparison.edges, comparison.extras) == ((8.0, 5.5), (Edge(0, 1, margin=2.5),), {})


def test_weights_of_each_edge(tmp_path: Path) -> None:
    row = {"prompt": "p", "chosen": "a", "rejected": ["b", "c"], "weight": [1, 3]}
    comparison, _ = only(jsonl(tmp_path / "d.jsonl", row))
    assert [edge.weight for edge in comparison.edges] == [1.0, 3.0]


def test_two_votes_on_one_pair_count_when_the_annotators_differ(tmp_path: Path) -> None:
    row = {"prompt": "p", "chosen": "a", "rejected": "b"}
    found = load(jsonl(tmp_path / "d.jsonl", row | {"annotator": "x"}, row | {"annotator": "y"}))
    assert len(found) == len({c.id for c in found}) == 2


def test_every_format_is_reached_by_a_case_here() -> None:
    reached = {case[2] for case in PAIRS} | {
        "ranking",
        "one positive, many negatives",
        "unpaired feedback",
        "image pair",
    }
    assert {form.name for form in FORMATS} - reached == {
        "stepwise feedback",
        "demonstration",
        "prompt only",
        "plain text",
    }
