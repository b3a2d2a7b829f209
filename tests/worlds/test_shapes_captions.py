"""Captions of the world of shapes are read back into what they ask for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rather.worlds.shapes.caption import parse
from rather.worlds.shapes.demand import OPENINGS, TASKS, random_demand
from rather.worlds.shapes.pairs import ShapesOptions, load_pairs
from rather.worlds.shapes.score import prompts

WORDINGS = range(len(OPENINGS))


@given(st.sampled_from(TASKS), st.booleans(), st.integers(0, 2**32 - 1))
def test_every_demand_is_read_back_from_every_wording(task: str, held_out: bool, seed: int) -> None:
    demand = random_demand(task, np.random.default_rng(seed), held_out)
    assert [parse(demand.caption(wording)) for wording in WORDINGS] == [demand for _ in WORDINGS]


def test_the_captions_of_data_and_of_the_evaluation_are_read() -> None:
    for demand, caption in prompts(20):
        assert parse(caption) == demand
    for pair in load_pairs(ShapesOptions(pairs=60, mismatch=0.5)):  # type: ignore[call-arg]
        found = parse(pair.prompt)
        assert found is not None and found.task == pair.extras["task"]


@pytest.mark.parametrize(
    "caption",
    [
        "",
        "a cat",
        "a",
        "A red circle",
        "a red circle ",
        "red circle",
        "a circle red",
        "a red red circle",
        "a striped large circle",
        "two red circle",
        "two crosss",
        "two circlees",
        "five red circles",
        "there is two red circles",
        "there are a red circle",
        "a picture of there is a red circle",
        "a red circle beside a blue square",
        "a red circle and a blue square at the top",
        "a red circle and a blue square and a green cross",
        "a red circle on a navy background",
        "a red circle on a white background on a black background",
    ],
)
def test_other_texts_are_not_read(caption: str) -> None:
    assert parse(caption) is None
