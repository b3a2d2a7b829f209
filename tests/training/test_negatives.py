"""One history, one positive and k negatives in a language model: every method on lists, one encoding of the prompt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rather.training.run import train
from tiny import WORDS, tiny_model, tiny_tokenizer
from training.runs import metrics

METHODS: dict[str, dict[str, Any]] = {
    "sdpo": {},
    "dmpo": {},
    "dynamicpo": {},
    "mppo": {"reduce": "mean", "beta": 10.0},  # whole answers of a random model have hardly any probability
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_model(tmp_path_factory.mktemp("tiny") / "model")


def written(path: Path, k: int) -> Path:
    words = WORDS.split()
    rows = [
        {
            "history": " ".join(words[row : row + 30]),
            "positive": words[60 + row],
            "negatives": [f"{words[80 + row]} {words[i]}" for i in range(k)],
        }
        for row in range(12)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def fit(output: Path, model: str, data: Path, method: str, **options: Any) -> list[dict[str, Any]]:
    settings = {"learning_rate": 3e-3, "batch_size": 3, "epochs": 3, "precision": "fp32", "eval_fraction": 0.0}
    train(model, str(data), method=method, output=str(output), quiet=True, samples=False, **{**settings, **options})
    return metrics(output)


@pytest.mark.parametrize("k", [1, 3, 7, 15])
def test_the_prompt_is_computed_once_whatever_k_and_the_loss_is_that_of_the_plain_form(
    tmp_path: Path, model: str, k: int
) -> None:
    data = written(tmp_path / "lists.jsonl", k)
    shared = fit(tmp_path / "shared", model, data, "sdpo")
    padded = fit(tmp_path / "padded", model, data, "sdpo", encoding="padded")
    tokenizer = tiny_tokenizer()
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    turns = [[{"role": "user", "content": row["history"]}] for row in rows]
    prompts = sum(len(tokenizer.apply_chat_template(turn, add_generation_prompt=True)["input_ids"]) for turn in turns)
    once, each = (sum(row["tokens/needed"] for row in found[:4]) for found in (shared, padded))
    assert sum(row["tokens/computed"] for row in shared[:4]) == once == each
    assert sum(row["tokens/computed"] for row in padded[:4]) >= each + k * prompts
    for ours, plain in zip(shared, padded, strict=True):
        assert ours["loss"] == pytest.approx(plain["loss"], abs=2e-4)
    assert shared[-1]["loss"] < shared[0]["loss"]


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_every_method_on_lists_learns_from_seven_negatives(tmp_path: Path, model: str, method: str) -> None:
    rows = fit(tmp_path / "run", model, written(tmp_path / "lists.jsonl", 7), method, epochs=5, **METHODS[method])
    assert rows[-1]["loss"] < rows[0]["loss"]
