"""Boundaries, begin and end tokens, truncation, and what the report says about them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rather.data.types import Comparison, Source
from rather.errors import UserError
from rather.policies.encoding_report import EncodingReport
from rather.policies.tokenization import OPENING, SPLIT, TextEncoder, Tokens
from tiny import BOS, CHAT, END, TURN_END, tiny_tokenizer

CHATTY = tiny_tokenizer()
RAW = tiny_tokenizer(chat=False)
WITH_BOS = tiny_tokenizer(chat=False, bos=True)
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)


def comparison(prompt: Any, *responses: Any, **extras: Any) -> Comparison:
    return Comparison("x", prompt, responses, extras=extras, source=Source("pairs.jsonl", 7))


def encode(tokenizer: Any, *comparisons: Comparison, **options: Any) -> tuple[list[Tokens], EncodingReport]:
    report = EncodingReport()
    found = TextEncoder(tokenizer, **options).encode(comparisons, report)
    return [tokens[0] for _, tokens in found], report


def one(tokenizer: Any, given: Comparison, **options: Any) -> tuple[str, list[str], EncodingReport]:
    (tokens,), report = encode(tokenizer, given, **options)
    return tokenizer.decode(tokens.prompt), [tokenizer.decode(r) for r in tokens.responses], report


def test_a_string_prompt_is_one_user_message() -> None:
    prompt, responses, _ = one(CHATTY, comparison("hello", "good", "bad"))
    assert prompt == "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"
    assert responses == ["good<|im_end|>\n", "bad<|im_end|>\n"]


def test_messages_of_several_turns_on_both_sides() -> None:
    prompt = ({"role": "system", "content": "short"}, {"role": "user", "content": "hi"})
    turns = tuple({"role": r, "content": c} for r, c in (("assistant", "yes"), ("user", "why"), ("assistant", "no")))
    text, (response,), _ = one(CHATTY, comparison(prompt, turns))
    assert text.startswith("<|im_start|>system\nshort<|im_end|>")
    assert response.startswith("yes<|im_end|>\n<|im_start|>user\nwhy<|im_end|>")
    assert response.endswith("assistant\nno<|im_end|>\n")


@pytest.mark.parametrize("tools", [[{"name": "clock"}], '[{"name": "clock"}]'])
def test_tools_reach_the_template(tools: Any) -> None:
    prompt, _, _ = one(CHATTY, comparison("hello", "good", tools=tools))
    assert '<|im_start|>system\n[{"name": "clock"}]<|im_end|>' in prompt


@settings(max_examples=80, deadline=None)
@given(prompt=TEXT, response=TEXT.filter(str.strip), chat=st.booleans())
def test_ids_give_back_the_text_with_one_end(prompt: str, response: str, chat: bool) -> None:
    tokenizer = CHATTY if chat else RAW
    if chat and not prompt:
        return
    ends = (TURN_END, END)
    if any(end in response for end in ends):
        return
    text, (found,), report = one(tokenizer, comparison(prompt, response), max_length=10_000)
    end = TURN_END + "\n" if chat else END
    assert found == response + end
    assert prompt in text
    assert text + found == tokenizer.decode(tokenizer(text + found, add_special_tokens=False).input_ids)
    assert report.encoded == 1
    assert sum(report.repairs.values()) <= 1


def test_a_token_across_the_boundary_is_split_and_counted() -> None:
    assert RAW.tokenize("the water") == ["the", "Ġwat", "er"]
    given = comparison("the wa", "ter", " long")
    (tokens,), report = encode(RAW, given)
    assert tokens.prompt.tolist() == RAW("the wa").input_ids
    assert RAW.decode(tokens.responses[0]) == "ter" + END
    assert report.repairs == {SPLIT: 1}
    assert any(SPLIT in line for line in report.lines())


def test_a_template_that_opens_the_answer_differently() -> None:
    """The opening at inference holds an empty thought that the finished conversation lacks."""
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = CHAT.replace("assistant\n' }}{% endif %}", "assistant\n<no thought>\n' }}{% endif %}")
    prompt, responses, report = one(tokenizer, comparison("hello", "good", "<no"))
    assert prompt.endswith("assistant\n<no thought>\n")
    assert responses == ["good<|im_end|>\n", "<no<|im_end|>\n"]
    assert report.repairs == {OPENING: 2}


def test_a_template_that_rewrites_the_prompt_is_refused() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{{ messages | length }}" + CHAT
    found, report = encode(tokenizer, comparison("hello", "good"))
    assert found == []
    assert report.dropped_rows == [
        ("pairs.jsonl:7", "the chat template renders the prompt differently once the response follows")
    ]


def test_a_template_that_raises_names_the_row() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{{ raise_exception('no system role') }}"
    _, report = encode(tokenizer, comparison("hello", "good"))
    assert report.dropped == {"the chat template refuses the conversation: no system role": 1}


def test_begin_token_once() -> None:
    for prompt in ("hello", BOS + "hello"):
        text, _, _ = one(WITH_BOS, comparison(prompt, " good"))
        assert text == BOS + "hello"
    chat = tiny_tokenizer(bos=True)
    assert BOS not in one(chat, comparison("hello", "good"))[0]  # the template's words alone


def test_end_token_once() -> None:
    for response in (" good", " good" + END):
        assert one(RAW, comparison("hello", response))[1] == [" good" + END]
    assert one(CHATTY, comparison("hello", "good" + TURN_END))[1] == ["good<|im_end|>\n"]


def test_a_template_without_end_gets_one() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }} {% endfor %}"
    _, responses, report = one(tokenizer, comparison("hello", "good"))
    assert responses == ["[assistant] good " + TURN_END]
    assert report.ends_added == 1


def test_an_empty_prompt_starts_from_a_begin_token() -> None:
    assert one(RAW, comparison("", "good"))[0] == BOS


def test_messages_without_template_are_a_transcript() -> None:
    prompt = tuple({"role": r, "content": c} for r, c in (("user", "hi"), ("assistant", "what"), ("user", "why")))
    text, responses, _ = one(RAW, comparison(prompt, "no", ({"role": "assistant", "content": "yes"},)))
    assert text == "\n\nHuman: hi\n\nAssistant: what\n\nHuman: why\n\nAssistant:"
    assert responses == [" no" + END, " yes" + END]
    assert one(CHATTY, comparison(prompt, "no"), template="none")[0] == text


def test_a_chat_template_that_is_not_there() -> None:
    with pytest.raises(UserError, match="no chat template"):
        TextEncoder(RAW, template="chat")


@pytest.mark.parametrize("response", ["", " \n", (), ({"role": "assistant", "content": ""},)])
@pytest.mark.parametrize("tokenizer", [RAW, CHATTY])
def test_an_empty_response_is_left_out_and_named(tokenizer: Any, response: Any) -> None:
    good = comparison("hello", " good")
    found, report = encode(tokenizer, good, comparison("hello", " good", response), good)
    assert len(found) == 2
    assert (report.comparisons, report.encoded) == (3, 2)
    assert report.dropped_rows == [("pairs.jsonl:7", "a response is empty")]


LONG = comparison("the " * 30, " a" * 5, " of" * 9)


def test_truncation_of_the_prompt_start_is_shared_by_the_responses() -> None:
    (whole,), _ = encode(WITH_BOS, LONG)
    (tokens,), report = encode(WITH_BOS, LONG, max_length=30)
    assert [r.tolist() for r in tokens.responses] == [r.tolist() for r in whole.responses]
    assert len(tokens.prompt) + max(tokens.lengths) == 30
    assert tokens.prompt[0] == WITH_BOS.bos_token_id  # the begin token stays
    assert tokens.prompt[1:].tolist() == whole.prompt[-len(tokens.prompt) + 1 :].tolist()
    assert (report.truncated, report.tokens_cut) == (1, len(whole.prompt) - len(tokens.prompt))


def test_truncation_of_the_response_end() -> None:
    (whole,), _ = encode(RAW, LONG)
    room = 4
    (tokens,), report = encode(RAW, LONG, max_length=len(whole.prompt) + room, truncation="response_end")
    assert tokens.prompt.tolist() == whole.prompt.tolist()
    assert tokens.lengths == (room, room)
    assert report.tokens_cut == sum(whole.lengths) - 2 * room


@pytest.mark.parametrize(
    ("truncation", "reason"),
    [
        ("drop", "longer than max_length (8)"),
        ("response_end", "the prompt alone fills max_length (8), no response token is left"),
        ("prompt_start", "a response leaves no room for its prompt within max_length (8)"),
    ],
)
def test_what_no_truncation_saves_is_left_out(truncation: Any, reason: str) -> None:
    found, report = encode(RAW, LONG, max_length=8, truncation=truncation)
    assert found == []
    assert report.dropped == {reason: 1}


@settings(max_examples=50, deadline=None)
@given(
    sizes=st.tuples(st.integers(0, 40), st.lists(st.integers(1, 30), min_size=1, max_size=4)),
    max_length=st.integers(2, 60),
    truncation=st.sampled_from(["prompt_start", "response_end", "drop"]),
)
def test_nothing_is_ever_longer_than_allowed_or_empty(
    sizes: tuple[int, list[int]], max_length: int, truncation: Any
) -> None:
    given = comparison("the " * sizes[0], *(" a" * n for n in sizes[1]))
    found, report = encode(RAW, given, max_length=max_length, truncation=truncation)
    (whole,), _ = encode(RAW, given, max_length=10_000)
    assert len(found) + sum(report.dropped.values()) == 1
    for tokens in found:
        assert len(tokens.prompt) >= 1
        assert min(tokens.lengths) >= 1
        assert len(tokens.prompt) + max(tokens.lengths) <= max_length
        kept = len(tokens.prompt) + sum(tokens.lengths)
        assert report.tokens_cut == len(whole.prompt) + sum(whole.lengths) - kept


def test_summary_is_plain_and_complete() -> None:
    import json

    _, report = encode(RAW, LONG, comparison("a", ""), max_length=30)
    summary = json.loads(json.dumps(report.summary()))
    assert summary["encoded"] == 1
    assert summary["dropped_rows"] == ["pairs.jsonl:7: a response is empty"]
    assert summary["response_tokens"]["max"] == max(report.response_lengths) > 5
    assert report.lines()[0] == "1 of 2 comparisons encoded"
