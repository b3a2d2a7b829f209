"""The plan: everything once an epoch, the same steps for any number of ranks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rather.training.plan import Plan, cut, share

COSTS = st.lists(st.integers(1, 50), min_size=1, max_size=60)


@given(COSTS, st.integers(1, 20), st.integers(0, 5), st.integers(1, 60))
def test_an_epoch_holds_every_comparison_once(costs: list[int], batch: int, seed: int, budget: int) -> None:
    plan = Plan(costs, batch, seed, budget)
    for epoch in range(2):
        steps = range(epoch * plan.steps_per_epoch, (epoch + 1) * plan.steps_per_epoch)
        taken = [i for step in steps for micro in plan.step(step) for i in micro.indices]
        assert sorted(taken) == list(range(len(costs)))
        assert all(plan.epoch(step) == epoch for step in steps)


@given(COSTS, st.integers(1, 20), st.integers(1, 5), st.integers(1, 60), st.one_of(st.none(), st.integers(1, 4)))
def test_ranks_share_a_step(costs: list[int], batch: int, world: int, budget: int, count: int | None) -> None:
    plan = Plan(costs, batch, 1, budget, count)
    for step in range(plan.steps_per_epoch):
        parts = [plan.step(step, rank, world) for rank in range(world)]
        assert len({len(part) for part in parts}) == 1, "every rank runs equally many passes"
        taken = [i for part in parts for micro in part if not micro.idle for i in micro.indices]
        assert sorted(taken) == sorted(plan.indices(step))


@given(COSTS, st.integers(1, 60), st.integers(1, 6))
def test_micro_batches_keep_to_their_bounds(costs: list[int], budget: int, count: int) -> None:
    for batch in cut(range(len(costs)), costs, budget, count):
        assert len(batch) <= count
        assert sum(costs[i] for i in batch) <= budget or len(batch) == 1


@given(COSTS, st.integers(1, 60), st.integers(1, 6), st.integers(1, 4), st.data())
def test_a_micro_batch_is_of_one_bucket(
    costs: list[int], budget: int, count: int, world: int, data: st.DataObject
) -> None:
    buckets = data.draw(st.lists(st.sampled_from("abc"), min_size=len(costs), max_size=len(costs)))
    plan = Plan(costs, 20, 1, budget, count, buckets)
    assert plan.indices(0) == Plan(costs, 20, 1, budget, count).indices(0), "buckets decide the cut, not the order"
    parts = [plan.step(0, rank, world) for rank in range(world)]
    assert len({len(part) for part in parts}) == 1
    assert all(len({buckets[i] for i in micro.indices}) == 1 for part in parts for micro in part)
    taken = [i for part in parts for micro in part if not micro.idle for i in micro.indices]
    assert sorted(taken) == sorted(plan.indices(0))
    for batch in cut(range(len(costs)), costs, budget, count, buckets):
        assert len(batch) <= count
        assert sum(costs[i] for i in batch) <= budget or len(batch) == 1


def test_epochs_differ_and_seeds_differ() -> None:
    plan = Plan([1] * 50, 50, 0)
    assert plan.indices(0) != plan.indices(1)
    assert plan.indices(0) != Plan([1] * 50, 50, 1).indices(0)
    assert plan.indices(0) == Plan([9] * 50, 50, 0, 100).indices(0), "costs decide the cut, not the order"


def test_an_idle_pass_is_the_cheapest() -> None:
    parts = [share([0, 1, 2], [5, 9, 2], rank, 2, 8, None) for rank in range(2)]
    assert [m.indices for m in parts[0]] == [(1,), (0,)]
    assert [(m.indices, m.idle) for m in parts[1]] == [((2,), False), ((2,), True)]


def test_total_steps() -> None:
    plan = Plan([1] * 10, 4, 0)
    assert plan.steps_per_epoch == 3
    assert plan.total_steps(2, None) == 6
    assert plan.total_steps(0.01, None) == 1
    assert plan.total_steps(2, 5) == 5
