"""Auxiliary responses: further prompts and texts of a comparison, seen by further terms only."""

from __future__ import annotations

import torch

from rather.data.identity import whole
from rather.data.store import from_json, to_json
from rather.data.types import Auxiliary, Comparison, Edge
from rather.objectives.scores import Layout
from rather.training.split import content_key

PLAIN = Comparison("a", "p", ("good", "bad"), (Edge(0, 1),), scores=(2.0, 1.0))
FULL = PLAIN.with_auxiliary(
    [
        Auxiliary("intra", "good", prompt="q", group=1, sign=1.0),
        Auxiliary("degree", "g", label=2),
        Auxiliary("intra", "good", prompt="r", group=1, sign=-1.0),
        Auxiliary("rationale", "because", prompt="q"),
        Auxiliary("degree", "b", prompt="p", label=3),
    ]
)


def test_equal_prompts_stand_together_and_the_own_one_comes_first() -> None:
    assert [(item.role, item.prompt) for item in FULL.auxiliary] == [
        ("degree", None),
        ("degree", None),
        ("intra", "q"),
        ("rationale", "q"),
        ("intra", "r"),
    ]
    assert [(part.prompt, part.responses) for part in FULL.parts()] == [
        ("p", ("good", "bad", "g", "b")),
        ("q", ("good", "because")),
        ("r", ("good",)),
    ]


def test_layout_numbers_them_behind_what_was_compared() -> None:
    layout = Layout.of([FULL, PLAIN], [1, 2, 3, 4, 5, 6, 7, 8, 9])
    assert layout.compared.tolist() == [True, True, False, False, False, False, False, True, True]
    assert layout.prompt.tolist() == [0] * 7 + [1] * 2
    assert layout.winner.tolist() == [0, 7] and layout.loser.tolist() == [1, 8]
    assert layout.targets().tolist() == [0, 7]
    assert torch.equal(layout.value.isnan(), ~layout.compared)
    intra = layout.auxiliary.of_role("intra")
    assert intra.response.tolist() == [4, 6] and intra.sign.tolist() == [1.0, -1.0] and intra.groups == 1
    assert layout.auxiliary.of_role("degree").label.tolist() == [2, 3]
    counts = layout.counts()
    assert counts["responses"] == 4 and counts["elements"] == 1 + 2 + 8 + 9
    assert (counts["intra"], counts["rationale"], counts["degree"], counts["inter"]) == (1, 1, 1, 0)


def test_they_are_part_of_the_content() -> None:
    assert content_key(FULL) != content_key(PLAIN) and whole(FULL) != whole(PLAIN)
    assert from_json(to_json(FULL)) == FULL
