"""Intervals and tests that several layers quote."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rather.stats import paired_change

LOOKS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)


def looks(both: int, gained: int, lost: int, neither: int) -> tuple[list[bool], list[bool]]:
    before = [True] * both + [False] * gained + [True] * lost + [False] * neither
    after = [True] * both + [True] * gained + [False] * lost + [False] * neither
    return before, after


def test_the_interval_is_newcombes_and_the_test_is_mcnemars() -> None:
    change = paired_change(*looks(36, 12, 2, 0))
    assert (change.gained, change.lost, change.change) == (12, 2, pytest.approx(0.2))
    assert change.interval == pytest.approx((0.0569, 0.3404), abs=5e-5)  # the published example
    assert change.p == pytest.approx(2 * (1 + 14 + 91) / 2**14)


def test_nothing_changed() -> None:
    change = paired_change(*looks(5, 0, 0, 3))
    assert (change.change, change.p) == (0.0, 1.0)
    assert change.interval[0] <= 0.0 <= change.interval[1]


@given(LOOKS)
def test_exchanging_the_two_looks_turns_the_change_around(pairs: list[tuple[bool, bool]]) -> None:
    before, after = ([pair[side] for pair in pairs] for side in (0, 1))
    there, back = paired_change(before, after), paired_change(after, before)
    assert there.change == pytest.approx(-back.change)
    assert there.interval == pytest.approx((-back.interval[1], -back.interval[0]))
    assert there.p == back.p
    assert -1.0 - 1e-9 <= there.interval[0] <= there.change + 1e-9
    assert there.change - 1e-9 <= there.interval[1] <= 1.0 + 1e-9
