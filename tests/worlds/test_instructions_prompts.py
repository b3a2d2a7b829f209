from __future__ import annotations

import json
from collections import Counter

import pytest

from rather.errors import UserError
from rather.worlds.instructions.checkers.registry import CHECKERS, compatible
from rather.worlds.instructions.prompts import Instruction, compose, mix_split
from rather.worlds.instructions.scoring import Rate, pass_rate, score

TRAIN, HELDOUT = compose("train", 880), compose("heldout", 160)


def test_compose_is_deterministic_and_grows_at_the_end() -> None:
    assert compose("train", 880) == TRAIN
    assert compose("train", 50) == TRAIN[:50]
    assert compose("train", 50, seed=7) != TRAIN[:50]


@pytest.mark.parametrize("prompts", [TRAIN, HELDOUT], ids=["train", "heldout"])
def test_prompts_are_sound(prompts: list[Instruction]) -> None:
    assert len({prompt.text for prompt in prompts}) == len({prompt.id for prompt in prompts}) == len(prompts)
    for prompt in prompts:
        assert 1 <= len(prompt.constraints) <= 3
        assert compatible(prompt.constraints)
        assert all(prompt.kind in CHECKERS[name].kinds for name, _ in prompt.constraints)
        assert mix_split(name for name, _ in prompt.constraints) == prompt.split
        assert prompt.topic in prompt.text
        assert json.loads(json.dumps(prompt.record())) == prompt.record()


def test_heldout_shares_nothing_but_checkers_with_training() -> None:
    assert {prompt.mix for prompt in TRAIN}.isdisjoint(prompt.mix for prompt in HELDOUT)
    assert {prompt.topic for prompt in TRAIN}.isdisjoint(prompt.topic for prompt in HELDOUT)
    assert {prompt.text for prompt in TRAIN}.isdisjoint(prompt.text for prompt in HELDOUT)
    trained = {name for prompt in TRAIN for name, _ in prompt.constraints}
    assert {name for prompt in HELDOUT for name, _ in prompt.constraints} <= trained


def test_variety() -> None:
    for prompts, most in ((TRAIN, 0.12), (HELDOUT, 0.15)):
        counts = Counter(name for prompt in prompts for name, _ in prompt.constraints)
        assert max(counts.values()) < most * sum(counts.values())
        assert len(counts) >= 35
        assert {len(prompt.constraints) for prompt in prompts} == {1, 2, 3}


def test_score_and_pass_rate() -> None:
    both = {"constraints": [["no_commas", {}], ["max_words", {"n": 3}]]}
    one = {"constraints": [["lowercase", {}]]}
    assert score(both, "yes, it is") == {"no_commas": False, "max_words": True}
    rates = pass_rate([both, one], [["it is", "yes, it is", "a, b, c, d"], "fine"])
    assert (rates.strict.passed, rates.strict.n) == (2, 4)
    assert (rates.loose.passed, rates.loose.n) == (4, 7)
    assert rates.checkers["max_words"] == Rate(2, 3)
    assert rates.sizes == {1: Rate(1, 1), 2: Rate(1, 3)}
    assert rates.summary()["strict"] == 0.5
    with pytest.raises(UserError):
        pass_rate([one], [])


def test_wilson_interval() -> None:
    # Wilson (1927) by hand: 5 of 10 at z = 1.96 is 0.5 +- 1.96 / (1 + 0.38416) * sqrt(0.025 + 0.009604)
    low, high = Rate(5, 10).interval()
    assert (low, high) == pytest.approx((0.23659, 0.76341), abs=1e-4)
    assert Rate(0, 0).interval() == (0.0, 1.0)
    assert Rate(0, 8).interval()[0] == pytest.approx(0.0, abs=1e-12)
