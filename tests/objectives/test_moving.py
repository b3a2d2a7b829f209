"""Moving parts: labels kept by a stable key, whatever the batch, the split or the order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load, save
from torch import Tensor, nn

from rather.data.types import Comparison, Edge
from rather.errors import UserError
from rather.methods.registry import get, methods
from rather.objectives.labels import Moving
from rather.objectives.links import Logistic, Pair
from rather.objectives.margins import Offset
from rather.objectives.parts import MovingPart, Seen, moving_parts
from rather.objectives.preference import Preference
from rather.objectives.scores import Layout, Scores, stable_key
from rather.objectives.tables import KeyedTable, edge_keys, mean_by_key
from rather.testing import AUXILIARY, Case, make_case, objective_of

keys = st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=8, unique=True)
shares = st.floats(0, 1)


@given(st.lists(st.tuples(keys, st.randoms(use_true_random=False)), max_size=6))
def test_a_table_is_a_dictionary(puts: list[tuple[list[int], Any]]) -> None:
    table, plain = KeyedTable(0.25).double(), {}
    for chosen, random in puts:
        values = [random.random() for _ in chosen]
        table.put(torch.tensor(chosen), torch.tensor(values, dtype=torch.float64))
        plain |= dict(zip(chosen, values, strict=True))
    asked = [*plain, 3, 2**62]
    assert table(torch.tensor(asked)).tolist() == [plain.get(key, 0.25) for key in asked]
    assert table.keys.tolist() == sorted(plain)


def test_a_table_grows_in_place_and_is_loaded_at_its_size() -> None:
    table = KeyedTable(1.0)
    held = table.values
    table.put(torch.tensor([7, 3]), torch.tensor([0.5, 0.25]))
    table.put(torch.tensor([5]), torch.tensor([0.75]))
    assert held is table.values
    copy = KeyedTable(1.0)
    copy.load_state_dict(load(save(table.state_dict())))
    assert copy(torch.tensor([3, 5, 7, 9])).tolist() == [0.25, 0.75, 0.5, 1.0]


def test_mean_by_key() -> None:
    key, mean = mean_by_key(torch.tensor([5, 2, 5]), torch.tensor([1.0, 3.0, 2.0]))
    assert (key.tolist(), mean.tolist()) == ([2, 5], [3.0, 1.5])


def test_an_edge_has_one_key_in_every_batch() -> None:
    comparisons = [
        Comparison(f"c{index}", "", ("",) * 4, tuple(Edge(0, loser) for loser in range(1, 2 + index)))
        for index in range(3)
    ]
    all_of = edge_keys(Layout.of(comparisons, [1] * 12)).tolist()
    assert len(set(all_of)) == 6
    assert [all_of[0], all_of[1], all_of[3]] == [stable_key(c.id) for c in comparisons]
    turned = edge_keys(Layout.of([comparisons[2], comparisons[0]], [1] * 8)).tolist()
    assert turned == [*all_of[3:6], all_of[0]]
    apart = edge_keys(replace(layout := Layout.of(comparisons, [1] * 12), edge_list=layout.edge_list.flip(0)))
    assert len(set(apart.tolist())) == 6, "edges of a comparison need not lie together"


def pair(z: float | Tensor) -> Pair:
    win = torch.as_tensor(z, dtype=torch.float64).reshape(-1)
    return Pair(win, torch.zeros_like(win), torch.zeros_like(win))


def visit(labels: Moving, z: float, key: int = 11) -> None:
    empty = torch.empty(0)
    seen = Seen(empty, empty, Layout.of([], []), pair(z), torch.tensor([key]))
    labels.advance(labels.observe(seen))


@given(shares, shares, st.floats(-20, 20), st.integers(0, 6))
def test_a_label_goes_to_the_prediction(start: float, gamma: float, z: float, visits: int) -> None:
    labels = Moving(gamma, start).double()
    for _ in range(visits):
        visit(labels, z)
    sigma = torch.sigmoid(torch.tensor(z, dtype=torch.float64)).item()
    label = labels.table(torch.tensor([11])).item()
    assert label == pytest.approx(sigma + (1 - gamma) ** visits * (start - sigma), abs=1e-12)
    assert min(start, sigma) - 1e-12 <= label <= max(start, sigma) + 1e-12


@given(shares, shares, st.floats(-20, 20))
def test_the_gradient_is_prediction_minus_label(start: float, gamma: float, z: float) -> None:
    """One visit multiplies it by 1 - gamma, which ``update_first`` does before the visit counts."""
    margin = torch.tensor([z], dtype=torch.float64, requires_grad=True)
    sigma = torch.sigmoid(torch.tensor(z, dtype=torch.float64)).item()
    found = []
    for order in ("use_first", "update_first"):
        labels = Moving(gamma, start, order).double()
        loss = labels(Logistic(), pair(0)._replace(win=margin), torch.ones(1), torch.tensor([11]))
        found.append(torch.autograd.grad(loss.sum(), margin)[0].item())
    assert found[0] == pytest.approx(sigma - start, abs=1e-12)
    assert found[1] == pytest.approx((1 - gamma) * (sigma - start), abs=1e-12)


def test_the_label_of_a_visit_is_what_the_table_says_after_it() -> None:
    labels = Moving(0.3).double()
    before = labels(Logistic(), pair(-1.5), torch.ones(1), torch.tensor([11]))
    visit(labels, -1.5)
    labels.order = "use_first"
    assert labels(Logistic(), pair(-1.5), torch.ones(1), torch.tensor([11])).item() == before.item()


def test_an_edge_met_twice_in_a_step_moves_once() -> None:
    labels = Moving(0.5).double()
    z = torch.tensor([1.0, -3.0], dtype=torch.float64)
    labels.advance({"key": torch.tensor([4, 4]), "prediction": torch.sigmoid(z)})
    assert labels.table(torch.tensor([4])).item() == pytest.approx(0.5 + 0.5 * torch.sigmoid(z).mean().item())


def test_a_label_follows_its_edge_through_shuffling() -> None:
    """Two epochs over a case, in batches of another order and cut: the same labels, whichever edge they belong to."""
    case = make_case([3, 2, 4, 2, 2, 3], seed=5)
    tables = []
    for plan in ([[0, 1, 2], [3, 4, 5]], [[2, 0, 1], [5, 3, 4]]):
        objective = get("dpo").objective(**{"labels.gamma": 0.3})
        for _ in range(2):
            for batch in plan:
                step(objective, case, [batch])
        tables.append(objective.state_dict())
    assert torch.equal(tables[0]["labels.table.keys"], tables[1]["labels.table.keys"])
    assert torch.equal(tables[0]["labels.table.values"], tables[1]["labels.table.values"])
    assert tables[0]["labels.table.keys"].numel() == 10
    assert tables[0]["labels.table.values"].unique().numel() == 10


def step(objective: Any, case: Case, parts: list[list[int]]) -> Tensor:
    """One optimizer step in these micro-batches; returns its loss."""
    batches = [case.batch(part) for part in parts]
    total = {unit: sum(b[2].counts()[unit] for b in batches) for unit in batches[0][2].counts()}
    outcomes = [objective(p, r if objective.needs_reference else None, layout) for p, r, layout in batches]
    observed = [outcome.observations for outcome in outcomes]
    objective.advance({name: torch.cat([o[name] for o in observed]) for name in observed[0]})
    return torch.stack([outcome.loss(total) for outcome in outcomes]).sum()


WITH_LABELS = [name for name, method in methods().items() if isinstance(method.objective(), Preference)]


@pytest.mark.parametrize("name", WITH_LABELS)
def test_every_pairwise_method_takes_moving_labels(name: str) -> None:
    """Three steps in two cuts: equal losses and labels; and the labels do something."""
    method = get(name)
    case = make_case([2, 2, 2, 2], seed=6, auxiliary=AUXILIARY if "auxiliary" in method.needs else ())
    moving = {"labels.gamma": 0.4}
    whole, cut, plain = (objective_of(method, **options) for options in (moving, moving, {}))
    cuts = [[0, 1, 2, 3]] if whole.couples_batch else [[0], [2, 3], [1]]
    for number in range(3):
        losses = [step(o, case, parts) for o, parts in ((whole, [[0, 1, 2, 3]]), (cut, cuts), (plain, [[0, 1, 2, 3]]))]
        torch.testing.assert_close(losses[0], losses[1], rtol=1e-9, atol=1e-9)
        assert not torch.isclose(losses[0], losses[2]), number
    table = whole.state_dict()
    assert table["labels.table.keys"].numel() == 4
    assert all(torch.equal(table[key], value) for key, value in cut.state_dict().items())


def test_what_does_not_go_together_is_refused() -> None:
    for options, text in (
        ({"labels.gamma": 0.1, "labels.smoothing": 0.1}, "either labels.smoothing or labels.gamma"),
        ({"labels.model": "moving"}, "above 0"),
        ({"labels.start": 0.5}, "belong to a moving label"),
        ({"labels.gamma": 1.5}, "less than or equal to 1"),
    ):
        with pytest.raises(UserError, match=text):
            get("ipo").configure(options)
    assert isinstance(get("ipo").objective(**{"labels.model": "moving", "labels.gamma": 0.1}).labels, Moving)


class LargestMargin(nn.Module):
    """A margin that asks for half of the largest policy margin of the steps so far."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("largest", torch.zeros(()))

    def forward(self, policy: Tensor, reference: Tensor, layout: Layout) -> Tensor:
        return 0.5 * self.get_buffer("largest").to(policy).expand(layout.edges)

    def observe(self, seen: Seen) -> Mapping[str, Tensor]:
        return {"margin": (seen.pair.win - seen.pair.lose)}

    def advance(self, observations: Mapping[str, Tensor]) -> None:
        self.get_buffer("largest").copy_(observations["margin"].max())


def test_any_part_may_move() -> None:
    part = LargestMargin()
    assert isinstance(part, MovingPart)
    objective = Preference(beta=1.0, link=Logistic(), offset=Offset(margins=[part]), labels=Moving(0.1))
    assert [path for path, _ in moving_parts(objective)] == ["offset.margins.0", "labels"]
    case = make_case([2, 2, 2], seed=7)
    policy, reference, layout = case.batch()
    outcome = objective(policy, reference, layout)
    assert set(outcome.observations) == {"offset.margins.0/margin", "labels/key", "labels/prediction"}
    assert not any(values.requires_grad for values in outcome.observations.values())
    assert outcome.metrics["labels/label"].tolist() == pytest.approx(
        (0.9 + 0.1 * torch.sigmoid(outcome.margins)).tolist(), abs=1e-6
    )
    objective.advance(outcome.observations)
    assert part.get_buffer("largest").item() == pytest.approx(outcome.margins.max().item())
    assert "offset.margins.0.largest" in objective.state_dict()


def test_a_margin_carries_no_gradient() -> None:
    class Asks(nn.Module):
        def forward(self, policy: Tensor, reference: Tensor, layout: Layout) -> Tensor:
            assert not policy.requires_grad
            assert not reference.requires_grad
            return policy[layout.winner] - policy[layout.loser]

    policy, _, layout = make_case([2], seed=8).batch()
    elements = policy.elements.requires_grad_()
    objective = Preference(beta=1.0, link=Logistic(), needs_reference=False, offset=Offset(margins=[Asks()]))
    loss = objective(Scores(elements, policy.response), None, layout).loss(layout.counts())
    (gradient,) = torch.autograd.grad(loss, elements)
    assert gradient.unique().abs().tolist() == pytest.approx([0.625, 0.625])  # half of the edge's weight
