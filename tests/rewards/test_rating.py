"""Prompts rated by the digits that a language model expects, and placed by an encoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from rather.policies.text_embedding import TextEmbedder
from rather.rewards.opening import open_language_model
from rather.rewards.rating import QUESTION, PromptRater
from rather.sampling.prompts import encode
from tiny import tiny_encoder, tiny_model

TEXTS = ["a red river", "blue", "Please write a longer plan about the green city, friend."]


def test_a_rating_is_the_mean_digit(tmp_path: Path) -> None:
    policy = open_language_model(tiny_model(tmp_path / "model"))
    found = PromptRater(policy, "tiny").rate([TEXTS[0], ({"role": "user", "content": TEXTS[1]},)])
    assert all(0 <= rating <= 1 for rating in found)
    assert found[0] != found[1]
    ids = encode(policy.tokenizer, [{"role": "user", "content": QUESTION.format(prompt=TEXTS[0])}])
    with torch.no_grad(), policy.sampling():
        logits = policy.model(input_ids=torch.tensor([ids])).logits[0, -1].double()
    digits = [policy.tokenizer(str(digit), add_special_tokens=False)["input_ids"][-1] for digit in range(10)]
    shares = torch.softmax(logits[digits], -1)
    assert found[0] == pytest.approx(float((shares * torch.arange(10)).sum()) / 9, abs=1e-6)


@pytest.mark.parametrize("kind", ["encoder", "causal"])
def test_a_text_is_a_point_of_length_one_whatever_stands_beside_it(tmp_path: Path, kind: str) -> None:
    folder = tiny_encoder(tmp_path / "model") if kind == "encoder" else tiny_model(tmp_path / "model")
    embed = TextEmbedder(folder)
    together, alone = embed(TEXTS), np.concatenate([embed([text]) for text in TEXTS])
    assert np.linalg.norm(together, axis=1) == pytest.approx(np.ones(3), abs=1e-6)
    assert together == pytest.approx(alone, abs=1e-5)
    assert np.abs(together[0] - together[1]).max() > 1e-3
