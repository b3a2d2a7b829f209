"""Numbers that others published or printed for these losses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import rather
from rather.data.types import Comparison, Edge
from rather.methods.registry import get
from rather.objectives.scores import Layout, Scores

VECTORS = Path(__file__).parents[1] / "vectors"


def vector(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(
    ("scores", "beta", "rate", "expected"),
    [  # chosen, rejected, reference's; then h, DPO, cDPO, rDPO, zeta, d rDPO / d chosen
        (
            (-12.3, -14.1, -12.9, -13.8),
            0.1,
            0.1,
            (0.9, 0.649159339026, 0.658159339026, 0.637909339026, -0.0602515175208),
        ),
        ((-45, -40, -44, -41.5), 0.1, 0.3, (-2.5, 0.825939419879, 0.750939419879, 1.01343941988, -0.131217650089)),
        ((-5.5, -9.25, -7, -6), 0.5, 0.2, (4.75, 0.0889394654749, 0.563939465475, -0.702727201192, -0.20921618917)),
        ((-20, -20, -20, -20), 0.1, 0.4, (0, 0.69314718056, 0.69314718056, 0.69314718056, -0.25)),
        ((-100, -30, -60, -50), 1.0, 0.25, (-60, 60, 45, 90, -1.5)),
    ],
)
def test_label_noise(scores: tuple[float, ...], beta: float, rate: float, expected: tuple[float, ...]) -> None:
    chosen, rejected, ref_chosen, ref_rejected = (vector(value) for value in scores)
    chosen.requires_grad_()
    args = (chosen, rejected, ref_chosen, ref_rejected)
    h, in_dpo, in_cdpo, in_rdpo, gradient = expected
    dpo, cdpo = rather.loss("dpo", *args, beta=beta), rather.loss("cdpo", *args, beta=beta, smoothing=rate)
    rdpo = rather.loss("rdpo", *args, beta=beta, flip_rate=rate)
    assert dpo.margins.item() == pytest.approx(beta * h, abs=1e-12)
    assert [out.loss.item() for out in (dpo, cdpo, rdpo)] == pytest.approx([in_dpo, in_cdpo, in_rdpo], rel=1e-11)
    rdpo.loss.backward()
    assert chosen.grad is not None
    assert chosen.grad.item() == pytest.approx(gradient, rel=1e-11)


def one_list(values: dict[str, Any]) -> tuple[Scores, Scores, Layout]:
    """One winner and its negatives, as the objective sees them."""
    if "l_w" in values:
        policy, reference = vector(values["l_w"], *values["l"]), vector(values["ref_w"], *values["ref"])
    else:
        policy = vector(values["rho_w"], *values["rho_l"])
        reference = torch.zeros_like(policy)
    count = policy.numel()
    edges = tuple(Edge(0, loser) for loser in range(1, count))
    layout = Layout.of([Comparison("list", "", ("",) * count, edges)], [1] * count)
    response = torch.arange(count)
    return Scores(policy.requires_grad_(), response), Scores(reference, response), layout


@pytest.mark.parametrize("name", ["dmpo", "sdpo"])
def test_several_negatives(name: str) -> None:
    values = json.loads((VECTORS / "dynamicpo.json").read_text())
    policy, reference, layout = one_list(values["one"])
    objective = get(name).objective(beta=values["one"]["beta"])
    loss = objective(policy, reference, layout).loss(layout.counts())
    assert loss.item() == pytest.approx(values["one"][name], rel=1e-12)

    policy, reference, layout = one_list(values["two"])
    objective(policy, reference, layout).loss(layout.counts()).backward()
    assert policy.elements.grad is not None
    assert policy.elements.grad.tolist() == pytest.approx(values["two"]["gradient"][name], rel=1e-10)


def test_one_negative_of_the_list_is_dpo() -> None:
    values = json.loads((VECTORS / "dynamicpo.json").read_text())["one"]
    out = rather.loss("dpo", vector(0.8), vector(0.3), vector(0.0), vector(0.0), beta=1.0)
    assert out.loss.item() == pytest.approx(values["dpo_first"], rel=1e-12)


POLY = {
    0.0: ([4.0181499279, 1.3132616875, 0.6931471806, 0.3132616875, 0.0181499279], None),
    8.0: (
        [11.8742602482, 7.1617303166, 4.6931471806, 2.4647930585, 0.1620396076],
        [-1.1233154397, -2.3039540446, -2.5, -1.8418368873, -0.1592878597],
    ),
    -0.8: (
        [3.2325388959, 0.7284148246, 0.2931471806, 0.0981085504, 0.0037609599],
        [-0.9678836251, -0.5737690320, -0.3, -0.1116518748, -0.0038560450],
    ),
    -2.0: (
        [2.0541223478, -0.1488554698, -0.3068528194, -0.2246211552, -0.0178224920],
        [-0.9466883776, -0.3378347121, 0, 0.1242824451, 0.0173392025],
    ),
}


@pytest.mark.parametrize("alpha", POLY)
def test_polynomial(alpha: float) -> None:
    z, zero = vector(-4, -1, 0, 1, 4).requires_grad_(), torch.zeros(5, dtype=torch.float64)
    out = rather.loss("poly_dpo", z, zero, zero, zero, beta=1.0, alpha=alpha)
    values, slopes = POLY[alpha]
    assert out.per_pair.tolist() == pytest.approx(values, abs=2e-10)
    if slopes is not None:
        (gradient,) = torch.autograd.grad(out.per_pair.sum(), z)
        assert gradient.tolist() == pytest.approx(slopes, abs=2e-10)


@pytest.mark.parametrize(
    ("right", "alpha", "fitted"),
    [(0.65, 8.0, 0.8882425443), (0.9, 8.0, 0.9863247459), (0.65, 0.0, 0.65), (0.65, -0.8, 0.5920328091)],
)
def test_polynomial_fits_its_own_confidence_to_noisy_labels(right: float, alpha: float, fitted: float) -> None:
    """A single margin trained on labels of which a share is right comes to rest at the known confidence."""
    zero = torch.zeros(1, dtype=torch.float64)
    z = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [z], max_iter=200, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def step() -> Tensor:
        optimizer.zero_grad()
        out = [
            rather.loss("poly_dpo", *side, zero, zero, beta=1.0, alpha=alpha).loss for side in ((z, zero), (zero, z))
        ]
        loss = right * out[0] + (1 - right) * out[1]
        loss.backward()
        return loss

    optimizer.step(step)
    assert torch.sigmoid(z).item() == pytest.approx(fitted, abs=1e-7)


@pytest.mark.parametrize("elements", [1, 7])
def test_denoising_errors(elements: int) -> None:
    """Scores of minus half the squared error, averaged: beta is the published one."""
    m_w, m_l = vector(0.20, 0.05, 0.40), vector(0.22, 0.04, 0.41)
    r_w, r_l = vector(0.21, 0.05, 0.38), vector(0.21, 0.045, 0.40)
    errors = [error.clone().requires_grad_(index < 2) for index, error in enumerate((m_w, m_l, r_w, r_l))]
    out = rather.loss("diffusion_dpo", *(-0.5 * e[:, None].expand(3, elements) for e in errors), beta=200.0)
    assert out.margins.tolist() == pytest.approx([2.0, -0.5, -1.0], abs=1e-12)
    assert out.per_pair.tolist() == pytest.approx([0.12692801, 0.97407698, 1.31326169], abs=1e-8)
    assert out.loss.item() == pytest.approx(0.80475556, abs=1e-8)
    out.loss.backward()
    up = [3.97343073, 20.74864437, 24.36861929]
    assert errors[0].grad is not None
    assert errors[1].grad is not None
    assert errors[0].grad.tolist() == pytest.approx(up, abs=1e-8)
    assert errors[1].grad.tolist() == pytest.approx([-x for x in up], abs=1e-8)
