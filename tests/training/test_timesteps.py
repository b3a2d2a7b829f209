"""Held-out numbers by timestep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from rather.data.types import Comparison
from rather.methods.registry import get
from rather.policies.points import PointDenoiser, PointsPolicy
from rather.stats import wilson
from rather.training import evaluation
from rather.training.evaluation import evaluate
from rather.training.learner import Learner
from rather.training.references import Frozen, Still
from rather.training.timesteps import BINS, ByTimestep
from rather.worlds.catalog import load_world


def policy_of(process: Any) -> PointsPolicy:
    torch.manual_seed(0)
    return PointsPolicy(PointDenoiser(width=16, layers=1), process=process)


def evaluated(policy: PointsPolicy, pairs: list[Comparison], method: str = "diffusion_dpo", cost: int = 64) -> Any:
    """Held-out numbers of a policy that has moved away from its reference."""
    objective = get(method).objective()
    reference: Any = Frozen(policy) if objective.needs_reference else Still()
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in policy.network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    learner = Learner(policy, objective)
    return evaluate(
        learner,
        policy,
        reference,
        policy.encode(pairs),
        device=torch.device("cpu"),
        max_cost=cost,
        progress=Quiet,
    ), reference


class Quiet:
    def __init__(self, what: str, total: int) -> None: ...

    def __enter__(self) -> Any:
        return lambda number: None

    def __exit__(self, *problem: object) -> None: ...


@pytest.mark.parametrize("process", ["diffusion", "flow"])
def test_bins_are_what_each_pair_says_at_its_timestep(process: str) -> None:
    """Every pair scored alone, by hand, and put where its timestep is."""
    policy, pairs = policy_of(process), load_world("points?pairs=120")
    found, reference = evaluated(policy, pairs)
    expected: dict[int, list[list[float]]] = {}
    objective = get("diffusion_dpo").objective()
    for item in policy.encode(pairs):
        batch = policy.collate([item])
        draw = policy.draw(batch, evaluation.SEED)
        with torch.no_grad():
            errors = []
            for network in (policy.network, reference.network):
                predicted = policy.predict(network, draw.noisy, draw.timestep, batch.inputs)
                errors += (predicted - draw.target).square().mean(1).tolist()
            outcome = objective(
                policy.score(policy.network, batch, draw), policy.score(reference.network, batch, draw), batch.layout
            )
        margin = float(outcome.margins)
        expected.setdefault(int(draw.timestep[0]) // 100, []).append([*errors, margin, float(margin > 0)])
    told = found["timesteps"]
    assert told["steps"] == 1000
    assert [row["from"] // 100 for row in told["bins"]] == sorted(expected)
    for row in told["bins"]:
        values = torch.tensor(expected[row["from"] // 100]).double()
        assert (row["to"] - row["from"], row["n"]) == (100, len(values))
        mean = values.mean(0).tolist()
        names = ["error/chosen", "error/rejected", "reference/chosen", "reference/rejected", "margin", "accuracy"]
        assert [row[name] for name in names] == pytest.approx(mean, rel=1e-4, abs=1e-6)
        assert row["accuracy/interval"] == list(wilson(row["accuracy"] * row["n"], row["n"]))


def test_bins_add_up_to_the_whole_and_do_not_depend_on_the_split() -> None:
    pairs = load_world("points?pairs=80")
    whole, parts = (evaluated(policy_of("diffusion"), pairs, cost=cost)[0] for cost in (1000, 6))
    bins = whole["timesteps"]["bins"]
    assert sum(row["n"] for row in bins) == whole["pairs"] == 80
    for name, overall in (("accuracy", "accuracy"), ("margin", "rewards/margins")):
        assert sum(row[name] * row["n"] for row in bins) / 80 == pytest.approx(whole[overall])
    for one, other in zip(bins, parts["timesteps"]["bins"], strict=True):
        assert one.pop("accuracy/interval") == other.pop("accuracy/interval")
        assert one == pytest.approx(other, rel=1e-3, abs=1e-6)


def test_without_a_reference_nothing_is_said_of_it() -> None:
    found, _ = evaluated(policy_of("diffusion"), load_world("points?pairs=30"), method="sft")
    bins = found["timesteps"]["bins"]
    assert all("error/chosen" in row and "reference/chosen" not in row for row in bins)


def test_any_number_of_timesteps_is_cut_into_bins() -> None:
    """Every timestep lies between the ends that its bin tells."""
    from rather.data.types import Edge
    from rather.objectives.outcome import Outcome
    from rather.objectives.scores import Layout, Scores

    for steps in (7, 10, 25, 1000):
        layout = Layout.of([Comparison("c", 0, ("a", "b"), (Edge(0, 1),))], [1, 1])
        for step in {0, 1, steps // 2, steps - 2, steps - 1}:
            bins = ByTimestep(steps, torch.device("cpu"))
            scores = Scores(torch.tensor([-0.5, -1.0]), torch.tensor([0, 1]))
            one: Any = Outcome((), torch.zeros(2), torch.zeros(1), torch.zeros(1), torch.zeros(2))
            bins.add(one, scores, None, layout, torch.tensor([step, step]), 1.0)
            (row,) = bins.result()["bins"]
            assert row["from"] <= step < row["to"]
            assert (row["error/chosen"], row["error/rejected"], row["accuracy"]) == (1.0, 2.0, 0.5)
    assert ByTimestep(1000, torch.device("cpu")).result() == {}
    assert BINS == 10


def test_a_run_of_text_has_no_timesteps(tmp_path: Path) -> None:
    from rather.policies.registry import open_policy
    from rather.policies.settings import PolicySettings
    from tiny import tiny_model

    policy: Any = open_policy(PolicySettings(model=tiny_model(tmp_path / "model")))
    assert not hasattr(policy, "timesteps")
