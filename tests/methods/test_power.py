"""POWER and POWER-DL: values, reductions, and what pessimism is for."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import rather
from rather.methods.registry import get
from rather.objectives.scores import Layout, Scores

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "power_dl.json").read_text())

quick = settings(max_examples=60, deadline=None)
score = st.floats(-300, -1e-3)
length = st.integers(1, 200)
beta_ = st.floats(0.1, 20)
share = st.floats(0, 1)


def vector(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def loss(method: str, win: float, lose: float, n_win: int, n_lose: int, **options: Any) -> rather.LossOutput:
    lengths = {"chosen_lengths": torch.tensor([n_win]), "rejected_lengths": torch.tensor([n_lose])}
    return rather.loss(method, vector(win), vector(lose), **lengths, **options)


@pytest.mark.parametrize("row", VECTORS["rows"], ids=lambda row: f"{row[0]},{row[1]}")
def test_values(row: list[Any]) -> None:
    given = dict(zip(VECTORS["columns"], row, strict=True))
    objective = (
        get("power_dl")
        .objective(
            beta=given["beta"],
            eta=given["eta"],
            reduce=given["reduce"],
            gamma=VECTORS["gamma"],
            label_start=given["label"],
            label_order="use_first",
        )
        .double()
    )
    layout = Layout.of_pairs(torch.tensor([given["length_w"]]), torch.tensor([given["length_l"]]))
    elements = vector(given["logp_w"], given["logp_l"]).requires_grad_()
    outcome = objective(Scores(elements, torch.arange(2)), None, layout)
    total = outcome.loss(layout.counts())
    assert total.item() == pytest.approx(given["loss"], rel=1e-11)
    gradient = torch.autograd.grad(total, elements)[0].tolist()
    assert gradient == pytest.approx([given["grad_w"], given["grad_l"]], rel=1e-11, abs=1e-15)
    prediction = outcome.observations["labels/prediction"]
    assert prediction.item() == pytest.approx(given["sigma"], rel=1e-11)
    assert torch.logit(prediction).item() == pytest.approx(given["D"], rel=1e-9, abs=1e-12)
    objective.advance(outcome.observations)
    assert objective.state_dict()["labels.table.values"].item() == pytest.approx(given["label_after"], rel=1e-11)


def test_path_of_a_label() -> None:
    path = VECTORS["path"]
    objective = get("power_dl").objective(eta=0.0, reduce="sum", beta=1.0, gamma=path["gamma"]).double()
    layout = Layout.of_pairs(torch.tensor([1]), torch.tensor([1]))
    scores = Scores(vector(-3.0, -3.0 - path["D"]), torch.arange(2))
    for _ in range(path["updates"]):
        objective.advance(objective(scores, None, layout).observations)
    assert objective.state_dict()["labels.table.values"].item() == pytest.approx(path["label"], rel=1e-12)


@quick
@given(score, score, length, length, beta_, st.floats(0, 0.1))
def test_reductions(win: float, lose: float, n_win: int, n_lose: int, beta: float, eta: float) -> None:
    at = (win, lose, n_win, n_lose)
    power = loss("power", *at, beta=beta, eta=eta).loss.item()
    assert loss("power_dl", *at, beta=beta, eta=eta, gamma=0.0).loss.item() == pytest.approx(power, rel=1e-12)
    gap = beta * (1 / n_lose - 1 / n_win)
    simpo = loss("simpo", *at, beta=beta, gamma=max(gap, 0)).loss
    if gap >= 0:
        assert loss("power", *at, beta=beta, eta=0.0).loss.item() == pytest.approx(simpo.item(), rel=1e-9, abs=1e-12)
    zero = vector(0.0)
    uniform = rather.loss("dpo", vector(win), vector(lose), zero, zero, beta=beta).loss.item()
    plain = loss("power", *at, beta=beta, eta=0.0, reduce="sum").loss.item()
    assert plain == pytest.approx(uniform, rel=1e-9, abs=1e-12)


@quick
@given(score, score, length, length, beta_, share, share)
def test_never_negative(
    win: float, lose: float, n_win: int, n_lose: int, beta: float, gamma: float, start: float
) -> None:
    for order in ("update_first", "use_first"):
        out = loss("power_dl", win, lose, n_win, n_lose, beta=beta, gamma=gamma, label_start=start, label_order=order)
        assert all(term.item() >= 0 for term in out.terms.values())


@quick
@given(st.floats(-10, -0.01), length, length, beta_)
def test_a_longer_response_of_equal_mean_has_the_lower_reward(mean: float, one: int, other: int, beta: float) -> None:
    def gap(n_win: int, n_lose: int) -> float:
        out = loss("power", mean * n_win, mean * n_lose, n_win, n_lose, beta=beta, eta=0.0)
        return -math.log(math.expm1(out.loss.item()))  # the margin of a logistic loss

    assert gap(one, other) == pytest.approx(beta * (1 / one - 1 / other), abs=1e-9 * (1 + beta))


def test_an_empty_response_counts_as_one_element() -> None:
    out = loss("power", 0.0, -3.0, 0, 3, beta=2.0, eta=0.1)
    assert out.loss.item() == pytest.approx(math.log1p(math.exp(-2 * (0 + 1 + 1 - 1 / 3))), rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("method", ["power", "power_dl"])
def test_finite_far_out(method: str, dtype: torch.dtype) -> None:
    for win, lose in ((-1e4, 0.0), (0.0, -1e4), (-1e4, -1e4)):
        chosen = torch.tensor([win], dtype=dtype, requires_grad=True)
        lengths = {"chosen_lengths": torch.tensor([1]), "rejected_lengths": torch.tensor([1])}
        out = rather.loss(method, chosen, torch.tensor([lose], dtype=dtype), beta=10.0, **lengths)
        assert torch.isfinite(out.loss)
        assert torch.isfinite(torch.autograd.grad(out.loss, chosen)[0]).all()


@pytest.mark.parametrize(("eta", "kept"), [(0.0, False), (0.3, True)])
def test_pessimism_keeps_every_response_that_was_chosen(eta: float, kept: bool) -> None:
    """A tabular policy over three responses; the first is in one comparison, which it wins, the others in many."""
    logits = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    wins, losses = torch.tensor([0] + [1] * 70 + [2] * 30), torch.tensor([1] + [2] * 70 + [1] * 30)
    lengths = {"chosen_lengths": torch.ones(101), "rejected_lengths": torch.ones(101)}
    optimizer = torch.optim.Adam([logits], lr=0.05)
    for _ in range(2000):
        logp = logits.log_softmax(0)
        optimizer.zero_grad()
        rather.loss("power", logp[wins], logp[losses], beta=1.0, eta=eta, reduce="sum", **lengths).loss.backward()
        optimizer.step()
    others = logits.detach().softmax(0)[1:]
    assert bool((others > 0.1).all()) is kept
