"""Groups of a model's own responses: different ones, scored, written so that they are read back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rather.data.load import load
from rather.data.types import Comparison
from rather.data.writing import write_jsonl
from rather.errors import UserError
from rather.policies.language import LanguagePolicy
from rather.rewards.base import Judge
from rather.rewards.diverse import farthest, levenshtein
from rather.rewards.groups import Sampling, Tally, groups
from rather.rewards.opening import open_language_model
from rather.rewards.programs import Length
from tiny import tiny_model

PROMPTS = [Comparison(str(i), f"Write about {word}", ()) for i, word in enumerate(["water", "plans", "a river"])]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> LanguagePolicy:
    folder = tiny_model(tmp_path_factory.mktemp("llama") / "model")
    return open_language_model(folder, precision="fp32")


class Flat(Judge):
    name = "flat"

    def score(self, prompt: Any, responses: Sequence[Any]) -> np.ndarray:
        return np.zeros(len(responses))


class Picky(Judge):
    name = "picky"

    def score(self, prompt: Any, responses: Sequence[Any]) -> np.ndarray:
        if "river" in prompt:
            raise UserError("cannot be judged: it is about rivers")
        return np.arange(len(responses), dtype=float)


def test_groups_are_scored_and_read_back(policy: LanguagePolicy, tmp_path: Path) -> None:
    tally = Tally()
    found = list(groups(policy, [*PROMPTS, PROMPTS[0]], Length(), Sampling(n=4, max_new_tokens=6, seed=3), tally))
    assert [c.prompt for c in found] == [c.prompt for c in PROMPTS]
    assert tally.written == 3 and tally.left_out == {"the same prompt again": 1}
    for comparison in found:
        assert 2 <= len(set(comparison.responses)) == len(comparison.responses) <= 4
        assert comparison.scores == tuple(float(len(text)) for text in comparison.responses)
        assert all(comparison.scores[e.winner] > comparison.scores[e.loser] for e in comparison.edges)
    path = tmp_path / "groups.jsonl"
    assert write_jsonl(iter(found), path) == 3
    read = list(load(path))
    assert [(c.id, c.prompt, c.responses, c.scores, c.edges) for c in read] == [
        (c.id, c.prompt, c.responses, c.scores, c.edges) for c in found
    ]


def test_a_group_is_a_function_of_seed_and_prompts(policy: LanguagePolicy) -> None:
    once, again, other = (
        [c.responses for c in groups(policy, PROMPTS, Length(), Sampling(n=3, max_new_tokens=6, seed=seed))]
        for seed in (0, 0, 1)
    )
    assert once == again != other


def test_a_prompt_is_what_the_model_is_trained_on(policy: LanguagePolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    """The prompt's ids are those of training: through the chat template for plain text too."""
    asked: list[list[int]] = []
    from rather.sampling import generate as module

    real = module.generate

    def listen(model: Any, tokenizer: Any, prompts: Any, **options: Any) -> Any:
        asked.extend(prompts)
        return real(model, tokenizer, prompts, **options)

    monkeypatch.setattr(module, "generate", listen)
    list(groups(policy, PROMPTS, Length(), Sampling(n=2, max_new_tokens=3)))
    encoded = policy.encode([Comparison("x", c.prompt, ("Yes",)) for c in PROMPTS])
    assert asked == [item.inputs[0].prompt.tolist() for item in encoded]


def test_groups_of_any_size_are_rows_of_one_format(policy: LanguagePolicy, tmp_path: Path) -> None:
    drawn = [list(groups(policy, PROMPTS, Length(), Sampling(n=n, max_new_tokens=6))) for n in (2, 4)]
    found = [replace(c, id=f"{n}-{c.id}") for n, part in enumerate(drawn) for c in part]
    write_jsonl(iter(found), tmp_path / "groups.jsonl")
    read = load(tmp_path / "groups.jsonl")
    assert len(read) == len(found) and not read.refused


def test_what_is_left_out_is_counted(policy: LanguagePolicy) -> None:
    tally = Tally()
    assert not list(groups(policy, PROMPTS, Flat(), Sampling(n=3, max_new_tokens=5), tally))
    assert tally.left_out == {"all responses score alike": 3}
    tally = Tally()
    found = list(groups(policy, PROMPTS, Picky(), Sampling(n=3, max_new_tokens=5), tally))
    assert len(found) == 2 and tally.left_out == {"cannot be judged: it is about rivers": 1}
    tally = Tally()
    assert not list(groups(policy, PROMPTS, Length(), Sampling(n=3, temperature=0.0, max_new_tokens=5), tally))
    assert tally.left_out == {"fewer than two different responses": 3}


def test_keeping_those_far_apart(policy: LanguagePolicy) -> None:
    everything = list(groups(policy, PROMPTS, Length(), Sampling(n=6, max_new_tokens=6)))
    kept = list(groups(policy, PROMPTS, Length(), Sampling(n=6, keep=3, max_new_tokens=6)))
    for all_, few in zip(everything, kept, strict=True):
        assert list(few.responses) == [all_.responses[i] for i in farthest(all_.responses, 3)]


def plain_levenshtein(one: str, other: str) -> int:
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        before, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (a != b))
    return row[-1]


@given(st.text("abc🙂", max_size=12), st.text("abc🙂", max_size=12))
def test_levenshtein(one: str, other: str) -> None:
    assert levenshtein(one, other) == plain_levenshtein(one, other) == levenshtein(other, one)


def test_farthest_points() -> None:
    texts = ["aaaa", "aaab", "bbbb", "aabb", "cccccc"]
    assert farthest(texts, 3) == [0, 4, 2]
    assert farthest(texts, 9) == [0, 4, 2, 3, 1]
    assert farthest([], 2) == []
    assert farthest(["x", "x", "y"], 2) == [0, 2]
