"""The world of points: its truth, its base model, and three methods that must raise the rate of the good mode."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from rather.data.load import load
from rather.errors import UserError
from rather.policies.points import PointsPolicy
from rather.policies.registry import open_policy
from rather.policies.settings import PolicySettings
from rather.training.run import train
from rather.worlds.catalog import load_world
from rather.worlds.points.truth import BAD_RADIUS, GOOD_RADIUS, NOISE, PROMPTS, base_data, directions, draw_at, rates

PROMPT_LIST = np.arange(2000) % PROMPTS


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of this module's own: the base model is really trained, once."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RATHER_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def base(cache: Path) -> PointsPolicy:
    policy = open_policy(PolicySettings(model="toy:points"))
    assert isinstance(policy, PointsPolicy)
    return policy


def test_truth_of_exact_samples() -> None:
    random = np.random.default_rng(0)
    good = rates(PROMPT_LIST, draw_at(PROMPT_LIST, GOOD_RADIUS, random))
    assert (good.good, good.bad) == (1.0, 0.0)
    assert good.hit > 0.998  # P(within 4 sigma) in the plane is 1 - exp(-8) = 0.99966
    bad = rates(PROMPT_LIST, draw_at(PROMPT_LIST, BAD_RADIUS, random))
    assert (bad.good, bad.hit) == (0.0, 0.0)
    far = rates(PROMPT_LIST, draw_at(PROMPT_LIST, 3.5, random), delta=2.0)
    assert far.hit > 0.998
    assert (far.good, far.off) == (1.0, 1.0)
    lost = rates(PROMPT_LIST[:4], np.full((4, 2), np.nan))
    assert (lost.good, lost.bad, lost.hit, lost.off) == (0.0, 0.0, 0.0, 1.0)


def test_base_data_holds_each_mode_equally_often() -> None:
    prompts, points = base_data(8000, seed=5)
    radius = (points * directions(prompts)).sum(-1)
    for prompt in range(PROMPTS):
        assert np.count_nonzero((prompts == prompt) & (radius > 1)) == 1000
    assert (points - np.where(radius > 1, 1.5, 0.5)[:, None] * directions(prompts)).std() == pytest.approx(NOISE, 0.03)


def test_pairs_have_the_asked_flips_and_shift() -> None:
    rows = load("world:points?pairs=2000&flip=0.2&delta=1")
    assert len(rows) == 2000
    flipped = np.array([row.extras["flipped"] for row in rows])
    assert flipped.mean() == pytest.approx(0.2, abs=4 * 0.009)
    unit = directions(np.array([row.prompt for row in rows]))
    chosen, rejected = (np.linalg.norm([row.responses[end] for row in rows], axis=1) for end in (0, 1))
    assert ((chosen < rejected) == flipped).all()
    assert np.where(flipped, rejected, chosen).mean() == pytest.approx(2.5, abs=0.02)
    assert (np.array([row.responses[0] for row in rows]) * unit).sum(-1).min() > -0.2


def test_splits_share_no_pair_and_held_out_labels_are_clean() -> None:
    train_rows = load_world("world:points?flip=0.3&pairs=500")
    held = load_world("world:points?flip=0.3&pairs=500&split=eval")
    assert not {row.responses for row in train_rows} & {row.responses for row in held}
    assert not {row.id for row in train_rows} & {row.id for row in held}
    assert not any(row.extras["flipped"] for row in held)
    assert load_world("world:points?flip=0.3&pairs=500") == train_rows


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("world:point", "did you mean 'points'"),
        ("world:points?pair=3", "did you mean 'pairs'"),
        ("world:points?flip=0.5", "less than 0.5"),
        ("world:points?flip", "key=value"),
        ("world:points?flip=0.1&flip=0.2", "twice"),
    ],
)
def test_mistakes_in_a_name_are_told(name: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        load(name)


def test_base_model_has_both_modes(base: PointsPolicy) -> None:
    points = base.points(base.network, PROMPT_LIST, seed=3)
    for prompt in range(PROMPTS):
        mine = prompt == PROMPT_LIST
        found = rates(PROMPT_LIST[mine], points[mine])
        assert 0.38 < found.good < 0.6
        assert 0.38 < found.bad < 0.6
        assert found.off < 0.02
    assert np.array_equal(points, base.points(base.network, PROMPT_LIST, seed=3))
    near_good = (points * directions(PROMPT_LIST)).sum(-1) > 1
    spread = (points - np.where(near_good, 1.5, 0.5)[:, None] * directions(PROMPT_LIST)).std()
    assert spread == pytest.approx(NOISE, rel=0.25)


def test_base_model_is_trained_once_and_a_damaged_file_is_replaced(base: PointsPolicy, cache: Path) -> None:
    (file,) = (cache / "toys").glob("points-*.safetensors")
    before = file.stat().st_mtime_ns
    again = open_policy(PolicySettings(model="toy:points"))
    assert again.fingerprint() == base.fingerprint()
    assert file.stat().st_mtime_ns == before
    whole = cache / "toys" / "shop-v1-seed0.safetensors"
    first = open_policy(PolicySettings(model="toy:shop")).fingerprint()
    whole.write_bytes(whole.read_bytes()[:100])
    assert open_policy(PolicySettings(model="toy:shop")).fingerprint() == first


@pytest.mark.parametrize(
    ("method", "data", "options"),
    [
        ("diffusion_dpo", "world:points", {"beta": 200.0}),
        ("rdpo", "world:points?flip=0.2", {"beta": 200.0, "reduce": "mean", "flip_rate": 0.2}),
        ("ipo", "world:points", {"beta": 20.0}),
    ],
)
def test_methods_raise_the_good_rate(
    method: str, data: str, options: dict[str, float | str], base: PointsPolicy, tmp_path: Path
) -> None:
    """The same loop, objectives and references as for text; the rate must rise beyond both 95% intervals."""
    result = train(
        "toy:points",
        data,
        eval_data="world:points?split=eval&pairs=200",
        method=method,
        max_steps=150,
        batch_size=128,
        learning_rate=3e-4,
        lr_schedule="constant",
        warmup_steps=0,
        eval_steps=0,
        output=str(tmp_path / "run"),
        quiet=True,
        **options,
    )
    told = json.loads((result.output / "evaluation.json").read_text())
    world = told["world"]
    assert world["after"]["pass_rate"]["interval"][0] > world["before"]["pass_rate"]["interval"][1] + 0.05
    assert world["after"]["near a mode or the target"]["rate"] > 0.9  # has not overshot
    assert told["before"]["loss"] > told["after"]["loss"]
    assert result.after["accuracy"] > 0.85
    assert result.before["accuracy"] == 0.5  # policy and reference are one model and see the same draw: all ties
    (row,) = [json.loads(line) for line in (result.output / "samples.jsonl").read_text().splitlines()]
    for side in ("before", "after"):
        assert (result.output / row[side]).read_bytes().startswith(b"\x89PNG")
    trained = open_policy(PolicySettings(model=f"toy:points?weights={result.model}"))
    assert isinstance(trained, PointsPolicy)
    assert trained.check(trained.network)["pass_rate"].mean() == world["after"]["pass_rate"]["rate"]
    assert not torch.equal(trained.network.leave.weight, base.network.leave.weight)
