"""Tokens as pieces of a response, and weights that travel with them to the scores."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from rather.data.types import Comparison, Edge
from rather.objectives.token_weights import ByTypeAndDifference, from_column
from rather.policies.language import LanguagePolicy
from rather.policies.pieces import pieces_of
from tiny import tiny_tokenizer

Open = Callable[..., LanguagePolicy]
TEXT = '{"Code": "rivér 🙂", "n": [1, "two"]}'


def test_every_token_stands_for_its_characters() -> None:
    tokenizer = tiny_tokenizer()
    ids = tokenizer(f"\n{TEXT}<|im_end|>\n", add_special_tokens=False).input_ids
    found = pieces_of(tokenizer, ids, TEXT)
    assert found.own
    inside = (found.starts >= 0) & (found.ends <= len(TEXT))
    assert not inside[0] and not inside[-1]
    covered = [TEXT[s:e] for s, e in zip(found.starts[inside], found.ends[inside], strict=True)]
    distinct = [
        text for i, text in enumerate(covered) if i == 0 or found.starts[inside][i] != found.starts[inside][i - 1]
    ]
    assert "".join(distinct) == TEXT
    smile = TEXT.index("🙂")
    assert found.overlap(smile, smile + 1).sum() == 4  # one byte each


def test_a_response_cut_short_is_not_its_own_text() -> None:
    tokenizer = tiny_tokenizer()
    ids = tokenizer(TEXT, add_special_tokens=False).input_ids[:-5]
    found = pieces_of(tokenizer, ids, TEXT)
    assert not found.own
    assert TEXT.startswith(found.text)


def test_bytes_that_are_no_text_end_a_response() -> None:
    tokenizer = tiny_tokenizer()
    ids = tokenizer("a 🙂", add_special_tokens=False).input_ids[:-1]
    found = pieces_of(tokenizer, ids, None)
    assert found.text == "a "
    assert found.starts[-1] == found.ends[-1] == 2


def annotated(code: str) -> str:
    return json.dumps({"Code": code, "Span": "the river"})


@pytest.mark.parametrize("encoding", ["shared", "padded"])
def test_weights_reach_the_scores(open_tiny: Open, pairs: list[Comparison], encoding: str) -> None:
    policy = open_tiny(encoding=encoding)
    chosen, rejected = annotated("mountain"), annotated("blue")
    rule = ByTypeAndDifference({"Code": 3.0}, difference=2.0)
    prompt = ({"role": "user", "content": "say"},)
    comparison = Comparison("x", prompt, (chosen, rejected), (Edge(0, 1),))
    batch = policy.collate(policy.encode([comparison, *pairs], weigh=rule))
    scores = policy.score(policy.network, batch, None, wants=frozenset({"weight"}))
    ids, weight = scores.extras["ids"], scores.extras["weight"]
    for index, code in enumerate(("mountain", "blue")):
        mine = scores.response == index
        heavy = ids[mine][weight[mine] >= 3.0]
        assert policy.tokenizer.decode(heavy).strip(' "') == code
    # Without weights every token counts as one; a batch without any says so too.
    bare = policy.collate(policy.encode([comparison]))
    assert "weight" not in bare.inputs
    ones = policy.score(policy.network, bare, None, wants=frozenset({"weight"})).extras["weight"]
    assert torch.equal(ones, torch.ones(len(ones)))
    assert "weight" not in policy.score(policy.network, bare, None).extras


def test_a_column_of_spans(open_tiny: Open) -> None:
    policy = open_tiny()
    text = "red green blue"
    spans = [[[4, 9, 2.5], [0, 14, 0.5]], []]
    comparison = Comparison("x", "say", (text, "no"), (Edge(0, 1),), extras={"spans": spans})
    (encoded,) = policy.encode([comparison], weigh=from_column)
    first, second = encoded.inputs[0].weights
    pieces = pieces_of(policy.tokenizer, encoded.inputs[0].responses[0], text)
    green = pieces.overlap(4, 9)
    assert set(first[green]) == {2.5}
    assert set(first[pieces.overlap(0, 14) & ~green]) == {0.5}
    assert set(first[~pieces.overlap(0, 14)]) == {1.0}  # the end of the turn
    assert set(second) == {1.0}


@pytest.mark.parametrize(
    ("spans", "words"),
    [
        ([[]], "one list for each response"),
        ([[[0, 1]], []], "a span has to be"),
        ([[[3, 3, 1.0]], []], "start < end"),
        ([[[0, 2, -1.0]], []], "weight >= 0"),
        ([[["a", 2, 1.0]], []], "a span has to be"),
    ],
)
def test_a_wrong_column_leaves_the_row_out(open_tiny: Open, spans: object, words: str) -> None:
    policy = open_tiny()
    good = Comparison("good", "say", ("red", "no"), (Edge(0, 1),))
    bad = replace(good, id="bad", extras={"spans": spans})
    encoded = policy.encode([good, bad], weigh=from_column)
    assert [item.comparison.id for item in encoded] == ["good"]
    assert policy.report.encoded == 1
    ((_, reason),) = policy.report.dropped_rows
    assert words in reason


def test_weights_of_auxiliary_responses_are_one(open_tiny: Open) -> None:
    from rather.data.types import Auxiliary

    policy = open_tiny()
    comparison = Comparison("x", "say", ("red", "blue"), (Edge(0, 1),), extras={"spans": [[[0, 3, 4.0]], []]})
    comparison = comparison.with_auxiliary([Auxiliary("degree", "green"), Auxiliary("degree", "red", prompt="why")])
    batch = policy.collate(policy.encode([comparison], weigh=from_column))
    weight, response = batch.inputs["weight"], batch.inputs["response"]
    assert weight.shape == response.shape
    assert float(weight[response == 0].max()) == 4.0
    assert np.all(weight[response > 0].numpy() == 1.0)
