"""Methods that noise in their own way, through the one loop: who inverts, what is refused, and going on after a stop."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rather.data.types import Comparison
from rather.errors import UserError
from rather.methods.registry import get
from rather.objectives.scales import CosineDecay
from rather.policies.noising import Inversion
from rather.policies.points import PointDenoiser, PointsPolicy
from rather.sampling.noise_tracked import noise_tracked_pairs, regeneration_error
from rather.training import checkpoints
from rather.training.drawing import make_draw
from rather.training.learner import Learner
from rather.training.references import Frozen, Still
from rather.training.run import train
from rather.worlds.points.pairs import PointsOptions, load_pairs

PAIRS = load_pairs(PointsOptions(pairs=12))


def policy(seed: int = 0, process: Any = "diffusion") -> PointsPolicy:
    torch.manual_seed(seed)
    return PointsPolicy(PointDenoiser(), process=process)


def rated(pairs: list[Comparison]) -> list[Comparison]:
    return [replace(one, scores=(0.1 * row, 0.5)) for row, one in enumerate(pairs)]


def tracked(flow: PointsPolicy, count: int = 12) -> list[Comparison]:
    return noise_tracked_pairs(flow, np.arange(count) % 4, lambda prompts, points: points[:, 0], seed=3, steps=4)


def run(output: Path, opened: PointsPolicy, pairs: list[Comparison], method: str, **settings: Any) -> Any:
    plain = {
        "max_steps": 3,
        "batch_size": 4,
        "learning_rate": 1e-3,
        "eval_steps": 0,
        "quiet": True,
        "eval_fraction": 0.0,
    }
    return train(opened, pairs, method=method, output=str(output), **{**plain, **settings})


@pytest.mark.parametrize("inverter", ["policy", "reference"])
def test_the_asked_network_inverts(inverter: Any) -> None:
    own, other = policy(), policy(1)
    objective = get("inpo").objective(**{"noising.inverter": inverter})
    learner, reference = Learner(own, objective), Frozen(other, noising=objective.noising)
    batch = own.collate(own.encode(PAIRS))
    learner.train()
    draw = make_draw(own, learner, reference, objective.noising, batch, 5)
    expected = (own if inverter == "policy" else other).draw(batch, 5, Inversion())
    assert draw.noisy.equal(expected.noisy) and draw.target.equal(expected.target)
    assert not draw.noisy.requires_grad
    assert learner.training
    loss, _, _ = learner(batch, draw, reference.score(batch, draw), batch.layout.counts())
    loss.backward()
    assert all(p.grad is None for p in reference.network.parameters())
    if inverter == "reference":
        with pytest.raises(UserError, match="no reference model to invert with"):
            make_draw(own, learner, Still(), objective.noising, batch, 5)


@pytest.mark.parametrize(
    ("method", "process", "options"),
    [
        ("inpo", "diffusion", {"noising.inverter": "reference"}),
        ("smpo", "diffusion", {"noising.steps": 2}),
        ("pnapo", "flow", {}),
    ],
)
def test_a_run_moves_the_model(method: str, process: Any, options: dict[str, Any], tmp_path: Path) -> None:
    opened = policy(process=process)
    pairs = tracked(opened) if method == "pnapo" else rated(PAIRS)
    before = opened.network.leave.weight.detach().clone()
    result = run(tmp_path / "run", opened, pairs, method, beta=50.0, **options)
    rows = [json.loads(line) for line in (result.output / "metrics.jsonl").read_text().splitlines()]
    assert all(np.isfinite(row["loss"]) for row in rows if "loss" in row)
    assert not opened.network.leave.weight.equal(before)
    assert any("factor" in key for row in rows for key in row) == (method != "inpo")


def test_the_decay_goes_on_after_a_stop(tmp_path: Path) -> None:
    flow = policy(process="flow")
    run(tmp_path / "run", flow, tracked(flow), "pnapo", save_steps=2, keep_checkpoints=9)
    found, _ = checkpoints.latest(tmp_path / "run")
    assert found is not None
    (done,) = (values for name, values in found.tensors("objective").items() if name.endswith("done"))
    assert int(done) == 3
    objective = get("pnapo").objective()
    objective.plan(10)
    (decay,) = (part for part in objective.modules() if isinstance(part, CosineDecay))
    assert [decay.factor(step) for step in (5, 9)] == [1.0, pytest.approx(0.5)]


def test_what_the_data_lacks_is_told(tmp_path: Path) -> None:
    for method, words in (("smpo", "score of each answer"), ("pnapo", "noise that each answer")):
        pairs = PAIRS if method == "smpo" else rated(PAIRS)
        with pytest.raises(UserError, match=words):
            run(tmp_path / method, policy(), pairs, method)


def test_tracked_pairs_are_ordered_and_come_back() -> None:
    flow = policy(process="flow")
    pairs = tracked(flow)
    assert all(one.scores[0] >= one.scores[1] for one in pairs)
    assert all(one.responses[0][0] == one.scores[0] for one in pairs)
    assert regeneration_error(flow, pairs, steps=4) == 0.0
    turned = [replace(one, extras={"noise": one.extras["noise"][::-1]}) for one in pairs]
    assert regeneration_error(flow, turned, steps=4) > 0.1
