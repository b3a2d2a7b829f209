"""What the studies of shapes make of pairs before they are trained on."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest

from rather.data.types import Comparison, Edge
from rather.studies import shapes_fifa, shapes_sail
from rather.training.plan import Plan

pytestmark = pytest.mark.skipif(
    any(find_spec(name) is None for name in shapes_fifa.STUDY.requires), reason="needs diffusers and Pillow"
)


def _pairs(name: str, count: int) -> list[Comparison]:
    return [
        Comparison(f"{name}-{row}", f"a {'red ' * row}circle", (b"1", b"2"), (Edge(0, 1),)) for row in range(count)
    ]


def test_every_step_of_a_round_has_the_share_of_self_labelled_pairs() -> None:
    settings = shapes_sail.Settings(batch=8, share=0.25)
    data = shapes_sail.batches(settings, _pairs("seed", 5), _pairs("self", 3), 0.25, 4, 77)
    plan = Plan([1] * len(data), settings.batch, 77)
    assert plan.steps_per_epoch == 4
    for step in range(4):
        ids = [data[index].id for index in plan.indices(step)]
        assert sum(one.startswith("self") for one in ids) == 2
    assert len({one.id for one in data}) == 32, "a repeated pair has new noise"
    assert sum(one.id.startswith("seed-0,") for one in data) in (4, 5), "all seeds come before any comes again"


def test_signed_margins_leave_flipped_pairs_out() -> None:
    pairs, wrong = _pairs("pair", 40), np.arange(40) % 4 == 0
    margin = np.where(wrong, -1.0, 1.0) * np.linspace(1.0, 2.0, 40)
    data = shapes_fifa.Labelled(pairs, wrong, margin)
    settings = shapes_fifa.Settings(keep=0.5)
    assert not wrong[shapes_fifa.kept(settings, shapes_fifa.Fifa(0.0, 0.0), data)].any()
    kept = shapes_fifa.kept(settings, shapes_fifa.Fifa(0.0, 0.0, "abs"), data)
    assert kept == list(range(39, 19, -1)), "the absolute margin keeps them"
