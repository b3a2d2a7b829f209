"""The study's arms and its training, on a world small enough to follow."""

from __future__ import annotations

import pytest
import torch

from rather.logic.names import OTHER_ROWS, named
from rather.studies import preference_logic as study


def test_groups_are_those_of_the_row_in_which_neither_is_accepted() -> None:
    assert set(study.FOR) == {"fUNL", "cfUNL", "unCPO", "l14"}
    assert set(study.AGAINST) == {"CE", "CEUNL", "sCE", "l3", "l5", "bCPO", "qfUNL", "l20"}
    assert {*study.FOR, *study.BETWEEN, *study.AGAINST} == set(OTHER_ROWS)


@pytest.mark.parametrize(("arm", "raised"), [("CE", True), ("cCPO", True), ("unCPO", False)])
def test_training(arm: str, raised: bool) -> None:
    settings = study.Settings(prompts=8, answers=6, steps=60)
    start = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
    moved = torch.zeros_like(start, requires_grad=True)
    after = study.train(settings, start, study.ARMS[arm], moved, lambda moved: moved)
    before, found = study.measure(start), study.measure(after)
    assert found["loser"] < before["loser"]
    assert (found["winner"] - before["winner"] > 0.7) == raised
    assert found["elsewhere"] == pytest.approx(float(after.softmax(-1)[:, 2:].sum(-1).mean()), abs=1e-6)


def test_a_wrong_order_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert study.broken_pairs(2000, torch.Generator().manual_seed(0)) == 0
    wrong = {**named(), "CEUNL": named()["unCPO"], "unCPO": named()["CEUNL"]}
    monkeypatch.setattr(study, "named", lambda: wrong)
    assert study.broken_pairs(2000, torch.Generator().manual_seed(0)) > 20
