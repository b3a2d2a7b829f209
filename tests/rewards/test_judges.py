"""Judges: programs, trained models, and language models that are asked."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rather import rewards
from rather.errors import UserError
from rather.policies.registry import open_policy
from rather.policies.settings import PolicySettings
from rather.rewards.base import TRAINED_BY
from rather.rewards.teacher import Choice, choice_scores
from rather.worlds.instructions.load import load_pairs, load_prompts
from tiny import tiny_encoder, tiny_model

PROMPT = ({"role": "user", "content": "Name a river"},)
ANSWERS = ["Blue", "The long water, friend.", "no"]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_model(tmp_path_factory.mktemp("llama") / "model")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_encoder(tmp_path_factory.mktemp("bert") / "model")


def saved(folder: Path, model: str, query: str = "", **trained_by: Any) -> Path:
    """A reward model in a folder, as a run leaves it."""
    policy = open_policy(PolicySettings(model=f"reward:{model}{query}", precision="fp32"))
    policy.save(policy.network, folder)
    if trained_by:
        (folder / TRAINED_BY).write_text(json.dumps({"method": "any", "options": trained_by}))
    return folder


def test_length() -> None:
    judge = rewards.judge("length")
    assert judge.score(PROMPT, ANSWERS).tolist() == [4, 23, 2]
    assert judge.group(PROMPT, ANSWERS)[1].tolist() == [19, 0, 21]
    assert [judge.compare(PROMPT, ANSWERS[0], other) for other in ("Red", "Long water", "four")] == [1.0, 0.0, 0.5]


def test_a_worlds_checker_agrees_with_its_pairs() -> None:
    judge = rewards.judge("checker:instructions")
    for row in load_pairs("train")[:40]:
        good, bad = judge.score(tuple(row["prompt"]), [row["chosen"], row["rejected"]])
        total = len(row["constraints"])
        assert good == pytest.approx(len(row["chosen_passes"]) / total)
        assert bad == pytest.approx(len(row["rejected_passes"]) / total)
    held = load_prompts("heldout")[0]
    assert 0 <= judge.score(held["prompt"], ["anything"])[0] <= 1
    with pytest.raises(UserError, match="none of the world's"):
        judge.score("What else?", ["this"])


def test_a_trained_reward_model(tmp_path: Path, language_model: str) -> None:
    folder = saved(tmp_path / "run" / "model", language_model, tau=0.5)
    judge = rewards.load(folder)
    score = judge.score(PROMPT, ANSWERS)
    assert score.shape == (3,) and score.dtype == np.float64
    np.testing.assert_allclose(judge.group(PROMPT, ANSWERS), score[:, None] - score[None, :])
    expected = 1 / (1 + math.exp(-(score[0] - score[1]) / 0.5))
    assert judge.compare(PROMPT, ANSWERS[0], ANSWERS[1]) == pytest.approx(expected, abs=1e-6)
    for name in (str(tmp_path / "run"), f"reward:{folder}"):
        np.testing.assert_allclose(rewards.judge(name).score(PROMPT, ANSWERS), score)


@pytest.mark.parametrize(("trained_by", "scale"), [({}, 10.0), ({"tau": 0.25}, 4.0), ({"beta": 3.0}, 3.0)])
def test_a_trained_embedding_model(tmp_path: Path, encoder: str, trained_by: dict[str, float], scale: float) -> None:
    judge = rewards.load(saved(tmp_path / "model", encoder, "?head=gpm&dim=4", **trained_by))
    table = judge.group(PROMPT, ANSWERS)
    np.testing.assert_array_equal(table, -table.T)
    assert np.abs(table).max() <= 1
    np.testing.assert_allclose(judge.score(PROMPT, ANSWERS), table.mean(1))
    assert judge.scale == pytest.approx(scale)
    forth = judge.compare(PROMPT, ANSWERS[0], ANSWERS[1])
    assert forth == pytest.approx(1 / (1 + math.exp(-scale * table[0, 1])), abs=1e-6)
    assert forth + judge.compare(PROMPT, ANSWERS[1], ANSWERS[0]) == pytest.approx(1.0)


def test_what_cannot_be_judged_is_told(tmp_path: Path, encoder: str) -> None:
    judge = rewards.load(saved(tmp_path / "model", encoder))
    with pytest.raises(UserError, match="cannot be judged: a response is empty"):
        judge.score("Hi", ["yes", " "])


def test_likelihood_is_the_mean_log_probability(language_model: str) -> None:
    judge = rewards.judge(f"likelihood:{language_model}")
    policy: Any = judge.policy  # type: ignore[attr-defined]
    from rather.data.types import Comparison

    (item,) = policy.encode([Comparison("a", PROMPT, tuple(ANSWERS))])
    for response, score in zip(item.inputs[0].responses, judge.score(PROMPT, ANSWERS), strict=True):
        ids = torch.tensor([[*item.inputs[0].prompt, *response]])
        logps = policy.model(input_ids=ids).logits[0].log_softmax(-1)[:-1].gather(1, ids[0, 1:, None])[:, 0]
        assert score == pytest.approx(logps[-len(response) :].mean().item(), abs=2e-2)


def test_published_choice_scores() -> None:
    named = np.array([[0, 0.8, 0.3], [0.15, 0, 0.2], [0.6, 0.75, 0]])
    expected = [-0.59783697348289, -1.7429692193443, -0.39304256588739]
    assert choice_scores(named).tolist() == pytest.approx(expected, abs=1e-13)
    assert choice_scores(np.zeros((2, 2))).tolist() == pytest.approx([math.log(2e-8)] * 2)
    assert choice_scores(np.zeros((2, 2)), least=1e-3).tolist() == pytest.approx([math.log(1e-3)] * 2)


class Liking:
    """Stands for the model: says A with 0.7 and B with 0.2 unless the answer in B is longer."""

    def __init__(self, judge: Choice) -> None:
        self.asked: list[tuple[str, str]] = []
        judge._ask = self  # type: ignore[method-assign]

    def __call__(self, prompt: Any, a: str, b: str) -> tuple[float, float]:
        self.asked.append((a, b))
        return (0.3, 0.6) if len(b) > len(a) else (0.7, 0.2)


def test_both_orders_take_out_a_liking_for_the_first(language_model: str) -> None:
    judge = rewards.judge(f"choice:{language_model}")
    assert isinstance(judge, Choice)
    liking = Liking(judge)
    named = judge.named(PROMPT, ["same!", "equal"])
    np.testing.assert_allclose(named, [[0, 0.45], [0.45, 0]])
    assert liking.asked == [("same!", "equal"), ("equal", "same!")]
    single = rewards.judge(f"choice:{language_model}?orders=single")
    assert isinstance(single, Choice)
    Liking(single)
    assert single.named(PROMPT, ["same!", "equal"]).tolist() == [[0, 0.7], [0.2, 0]]


def test_a_model_is_asked_for_letters(language_model: str) -> None:
    judge = rewards.judge(f"choice:{language_model}?alpha=0.25")
    assert isinstance(judge, Choice)
    for letter, ids in judge._letters.items():
        assert {str(judge.policy.tokenizer.decode([i])).strip() for i in ids} == {letter}
    named = judge.named(PROMPT, ANSWERS[:2])
    assert 0 < named[0, 1] < 1 and 0 < named[1, 0] < 1 and named[0, 1] + named[1, 0] < 1
    mixed = 0.25 * judge.likelihood.score(PROMPT, ANSWERS[:2]) + 0.75 * choice_scores(named)
    np.testing.assert_allclose(judge.score(PROMPT, ANSWERS[:2]), mixed)


def test_long_responses_are_cut_where_they_are_shown(language_model: str) -> None:
    judge = rewards.judge(f"choice:{language_model}")
    assert isinstance(judge, Choice)
    judge.most = 4
    shown = judge._shown("blue green red river water plan")
    assert "blue green red river water plan".startswith(shown) and len(shown) < 20


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lenght", "did you mean 'length'"),
        ("length:3", "takes no argument"),
        ("checker:points", "no world 'points'"),
        ("likelihood:", "needs a language model"),
        ("choice:x?alpha=2", "alpha=2"),
        ("no/such/folder", "holds no reward model"),
    ],
)
def test_mistakes(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        rewards.judge(name)
