"""The account of work against the operations that torch counts, and positions against the plain way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from rather.data.types import Comparison, Edge
from rather.policies.language import LanguagePolicy
from rather.policies.operations import Operations
from rather.policies.scorer import LanguageScorer
from rather.policies.work import Work, work_of
from tiny import tiny_lm

Open = Callable[..., LanguagePolicy]


def counted(policy: LanguagePolicy, comparisons: list[Comparison]) -> tuple[Work, float]:
    """The policy's account, and the operations of matrix products in forward and backward as they are run."""
    encoded = policy.encode(comparisons)
    batch = policy.collate(encoded)
    with FlopCounterMode(display=False) as counter:
        policy.score(policy.network, batch, None).elements.sum().backward()
    products = {"mm", "addmm", "bmm"}
    counts = counter.get_flop_counts()["Global"].items()
    return policy.work(encoded, batch), sum(n for op, n in counts if str(op).split(".")[-1] in products)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "mistral", "qwen2"])
def test_full_training_counts_each_product_three_times(open_tiny: Open, pairs: list[Comparison], kind: str) -> None:
    work, run = counted(open_tiny(kind), pairs)
    assert work.forward + work.backward == run
    assert work.backward == 2 * work.forward


@pytest.mark.parametrize("targets", ["all-linear", "o_proj,down_proj"])
def test_frozen_weights_have_no_gradient_of_their_own(open_tiny: Open, pairs: list[Comparison], targets: str) -> None:
    work, run = counted(open_tiny(lora=True, lora_rank=2, lora_targets=targets), pairs)
    # In the first layer of two, some weights beside the first trained one have nothing trained in front either.
    assert run <= work.forward + work.backward <= 1.1 * run
    full = open_tiny().work(open_tiny().encode(pairs), open_tiny().collate(open_tiny().encode(pairs)))
    assert work.backward < 0.6 * full.backward


def test_positions(open_tiny: Open, pairs: list[Comparison]) -> None:
    shared, padded = open_tiny(), open_tiny(encoding="padded")
    for policy in (shared, padded):
        encoded = policy.encode(pairs)
        batch = policy.collate(encoded)
        work = policy.work(encoded, batch)
        assert work.computed == batch.inputs["input_ids"].numel()
        assert work.needed == sum(e.cost for e in shared.encode(pairs))
        assert work.dtype == torch.float32
    work = shared.work(encoded := shared.encode(pairs), shared.collate(encoded))
    assert work.computed == work.needed


def test_of_experts_only_those_that_are_used() -> None:
    few, all_of_them = (
        Operations.of(LanguageScorer(tiny_lm("mixtral", 300, num_local_experts=8, num_experts_per_tok=n)))
        for n in (2, 8)
    )
    experts = 2 * 3 * 32 * 48 * 8 * 2  # layers, products, sizes, experts, multiply and add
    assert all_of_them.body - few.body == experts * 6 / 8
    assert all_of_them.head == few.head == 2 * 32 * 300


def test_a_policy_that_does_not_tell() -> None:
    from training.catalogue import CataloguePolicy

    policy: Any = CataloguePolicy()
    encoded = policy.encode([Comparison("a", "0", ((1, 2), (3,)), (Edge(0, 1),))])
    assert work_of(policy, encoded, policy.collate(encoded)) == Work(encoded[0].cost, encoded[0].cost)


def test_work_adds_up() -> None:
    assert Work(1, 2, 3.0, 4.0) + Work(10, 20, 30.0, 40.0, torch.bfloat16) == Work(11, 22, 33.0, 44.0, torch.bfloat16)
