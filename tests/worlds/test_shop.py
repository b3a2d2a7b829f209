"""The shop: its truth, the recommender as a policy, and S-DPO, which must raise HR@1."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from rather.data.load import load
from rather.data.types import Comparison, Edge
from rather.errors import UserError
from rather.policies.catalogue import CataloguePolicy
from rather.policies.registry import open_policy
from rather.policies.settings import PolicySettings
from rather.training.run import train
from rather.worlds.catalog import load_world
from rather.worlds.shop.truth import CANDIDATES, ITEMS, TRAINING_USERS, USERS, open_shop, taken_ranks


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RATHER_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def opened(seed: int = 0) -> CataloguePolicy:
    policy = open_policy(PolicySettings(model=f"toy:shop?seed={seed}"))
    assert isinstance(policy, CataloguePolicy)
    return policy


def test_the_taken_item_is_the_useful_one() -> None:
    """Full knowledge of both tastes gives the taken item nearly always; noise of 0.5 spoils some."""
    shop = open_shop(0)
    assert all(len(set(row)) == CANDIDATES for row in shop.candidates)
    users = np.arange(USERS)
    ideal = taken_ranks(shop, users, shop.users @ shop.items.T)
    assert 0.8 < (ideal == 1).mean() < 0.95
    seen = taken_ranks(shop, users, shop.users[:, :12] @ shop.items[:, :12].T)
    assert 0.4 < (seen == 1).mean() < 0.75
    blind = taken_ranks(shop, users, np.random.default_rng(0).random((USERS, ITEMS)))
    assert (blind == 1).mean() == pytest.approx(1 / CANDIDATES, abs=4 * 0.004)
    assert (taken_ranks(shop, users, np.zeros((USERS, ITEMS))) == CANDIDATES).all()  # a tie is no hit


def test_rows_hold_the_taken_item_and_other_candidates() -> None:
    shop = open_shop(2)
    rows = load("world:shop?k=15&seed=2")
    assert len(rows) == TRAINING_USERS
    for row in list(rows)[:50]:
        assert row.responses[0] == shop.candidates[row.prompt, 0]
        assert set(row.responses[1:]) <= set(shop.candidates[row.prompt, 1:].tolist())
        assert len(set(row.responses)) == 16
        assert [(e.winner, e.loser) for e in row.edges] == [(0, j) for j in range(1, 16)]
    fewer = load_world("world:shop?k=3&seed=2")
    assert all(a.responses[:4] == b.responses for a, b in zip(rows, fewer, strict=True))
    held = load_world("world:shop?split=eval")
    assert {row.prompt for row in held} == set(range(TRAINING_USERS, USERS))


def test_k_is_at_most_the_other_candidates() -> None:
    with pytest.raises(UserError, match="negatives of each positive"):
        load("world:shop?k=20")


def test_scores_are_log_probabilities_over_the_catalogue() -> None:
    policy = opened()
    every = Comparison("all", 7, tuple(range(ITEMS)), (Edge(0, 1),))
    pair = Comparison("pair", 1600, (3, 250), (Edge(0, 1),))
    batch = policy.collate(policy.encode([every, pair]))
    scores = policy.score(policy.network, batch, None)
    assert batch.layout.lengths.unique().tolist() == [1]
    assert float(scores.elements[:ITEMS].detach().exp().sum()) == pytest.approx(1.0, abs=1e-5)
    with torch.no_grad():
        taste = policy.network.taste(torch.tensor(policy.shop.users[1600, :12], dtype=torch.float32))
        logits = taste @ torch.tensor(policy.shop.items, dtype=torch.float32).T
    torch.testing.assert_close(scores.elements[-2:], logits.log_softmax(0)[[3, 250]], rtol=1e-5, atol=1e-5)


def test_rows_that_are_no_items_are_left_out() -> None:
    policy = opened()
    bad = [Comparison("a", "text", ("x", "y"), (Edge(0, 1),)), Comparison("b", 1, (5, 300), (Edge(0, 1),))]
    assert policy.encode(bad) == []
    assert sum(policy.report.dropped.values()) == 2


def run(method: str, k: int, seed: int, output: Path, steps: int) -> Path:
    result = train(
        f"toy:shop?seed={seed}",
        f"world:shop?k={k}&seed={seed}",
        eval_data=f"world:shop?k={k}&seed={seed}&split=eval&users=100",
        method=method,
        beta=1.0,
        max_steps=steps,
        batch_size=128,
        learning_rate=0.02,
        lr_schedule="constant",
        warmup_steps=0,
        eval_steps=0,
        max_grad_norm=0.0,
        output=str(output),
        quiet=True,
    )
    return result.output


def test_sdpo_raises_hr1(tmp_path: Path) -> None:
    gains = []
    for seed in range(3):
        told = json.loads((run("sdpo", 8, seed, tmp_path / str(seed), 150) / "evaluation.json").read_text())["world"]
        assert told["before"]["pass_rate"]["n"] == USERS - TRAINING_USERS
        assert told["before"]["pass_rate"]["rate"] > 0.35  # the warm start is far above chance, 0.05
        gains.append(told["after"]["pass_rate"]["rate"] - told["before"]["pass_rate"]["rate"])
    assert np.mean(gains) > 0.005
    assert (tmp_path / "0" / "samples" / "after.png").read_bytes().startswith(b"\x89PNG")


def test_one_negative_makes_sdpo_dmpo_and_dpo_the_same(tmp_path: Path) -> None:
    weights = [
        load_file(run(m, 1, 0, tmp_path / m, 12) / "model" / "model.safetensors") for m in ("sdpo", "dmpo", "dpo")
    ]
    warm = opened().network.state_dict()
    for name, tensor in weights[0].items():
        assert torch.equal(tensor, weights[1][name])
        assert torch.equal(tensor, weights[2][name])
        assert not torch.equal(tensor, warm[name])
