"""The audit of a reference's order, and the theory of the added margin."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rather.inspection.reference_order import critical_gamma, reference_order, stationary_margin

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "constrained_po.json").read_text())["constrained_rlhf"]


def test_audit() -> None:
    reference = torch.tensor([-1.0, -1.0, -0.5, 0.2, 1.0])
    policy = torch.tensor([-0.2, 0.3, -0.7, -0.1, 2.0])
    gap = torch.tensor([0.05, 0.2, 0.1, 0.0, 1.0])
    found = reference_order(policy, reference, gamma=0.5, reward_gap=gap, beta=0.1)
    assert found.frac_in_U == pytest.approx(1 / 5)
    assert found.frac_ref_below_gamma == pytest.approx(4 / 5)
    assert found.violation_rate == pytest.approx(1 / 5)
    assert found.mean == pytest.approx(-0.26, abs=1e-6)
    assert found.quartiles == pytest.approx((-1.0, -0.5, 0.2))
    assert reference_order(policy, reference).violation_rate is None


@pytest.mark.parametrize("row", VECTORS["rows"])
def test_stationary_points(row: list[float]) -> None:
    p_ref, gap, beta, gamma, critical, probability = row
    margin = math.log(p_ref / (1 - p_ref))
    assert critical_gamma(gap, margin, beta) == pytest.approx(critical, rel=1e-11)
    found = stationary_margin(gap, margin, beta, gamma)
    assert found is not None
    assert 1 / (1 + math.exp(-found)) == pytest.approx(probability, rel=1e-11)


@settings(max_examples=100, deadline=None)
@given(st.floats(-2, 2), st.floats(-5, 5), st.floats(0.1, 3), st.floats(0.01, 2))
def test_the_critical_weight_is_where_the_wrong_order_stops(
    gap: float, margin: float, beta: float, share: float
) -> None:
    critical = critical_gamma(gap, margin, beta)
    found = stationary_margin(gap, margin, beta, share * critical)
    if critical > 1e-9 and abs(share - 1) > 1e-6:
        assert (found is None) is (share > 1)
    if found is not None and critical:
        d = found
        slope = gap - beta * (d - margin) + share * critical * (2 + 2 * math.cosh(d))
        assert slope == pytest.approx(0, abs=1e-6 * (1 + abs(gap) + beta * (abs(d) + abs(margin))))
    plain = stationary_margin(gap, margin, beta, 0.0)
    if gap + beta * margin < 0:
        assert plain == pytest.approx(margin + gap / beta, rel=1e-9, abs=1e-9)
