"""What a policy that checks its own samples tells, before and after."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from rather.training.examine import examine


class Checked:
    """A policy whose samples pass as the test says."""

    def __init__(self, **passed: list[int]) -> None:
        self.network = nn.Linear(1, 1)
        self.passed = passed

    def check(self, network: nn.Module) -> dict[str, np.ndarray]:
        return {name: np.asarray(values, bool) for name, values in self.passed.items()}


def both(output: Path, before: Checked, after: Checked) -> dict[str, Any]:
    first: Any = before
    second: Any = after
    return examine(second, output, "after", examine(first, output, "before", {}))


def test_samples_are_compared_one_by_one(tmp_path: Path) -> None:
    found = both(tmp_path, Checked(pass_rate=[1, 0, 0, 0, 1]), Checked(pass_rate=[0, 1, 1, 1, 1]))
    entry = found["after"]["pass_rate"]
    assert (entry["gained"], entry["lost"], entry["change"]) == (3, 1, pytest.approx(0.4))
    assert entry["change/interval"][0] < 0 < entry["change/interval"][1]
    assert entry["p"] == pytest.approx(0.625)
    assert "change" not in found["before"]["pass_rate"]


def test_other_numbers_of_samples_are_not_compared(tmp_path: Path) -> None:
    found = both(tmp_path, Checked(one=[1, 0], two=[1]), Checked(one=[1, 0, 1], two=[0]))
    assert "change" not in found["after"]["one"]
    assert found["after"]["two"]["change"] == -1.0
