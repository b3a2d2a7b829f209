"""Adapters: start equals reference, the way back to the model as loaded, saving, training further."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from rather.data.types import Comparison
from rather.errors import UserError
from rather.policies.base import Batch
from rather.policies.language import LanguagePolicy

Open = Callable[..., LanguagePolicy]


def step(policy: LanguagePolicy, batch: Batch, rate: float = 0.5) -> None:
    trained = [p for p in policy.network.parameters() if p.requires_grad]
    policy.score(policy.network, batch, None).elements.mean().neg().backward()
    torch.optim.SGD(trained, rate).step()
    policy.network.zero_grad()


def before(policy: LanguagePolicy, batch: Batch) -> torch.Tensor:
    context = policy.adapters_off(policy.network)
    assert context is not None
    with context, torch.no_grad():
        return policy.score(policy.network, batch, None).elements


def test_start_is_the_base_and_the_base_stays_at_hand(open_tiny: Open, pairs: list[Comparison]) -> None:
    plain, policy = open_tiny(), open_tiny(lora=True, lora_rank=4)
    batch = policy.collate(policy.encode(pairs))
    base = plain.score(plain.network, batch, None).elements
    assert plain.adapters_off(plain.network) is None
    assert torch.equal(policy.score(policy.network, batch, None).elements, base)
    step(policy, batch)
    assert (policy.score(policy.network, batch, None).elements - base).abs().max() > 1e-3
    assert torch.equal(before(policy, batch), base)


def test_only_adapters_are_trained(open_tiny: Open, pairs: list[Comparison]) -> None:
    policy = open_tiny(lora=True)
    trained = [name for name, p in policy.network.named_parameters() if p.requires_grad]
    assert trained
    assert all("lora_" in name for name in trained)
    policy.score(policy.network, policy.collate(policy.encode(pairs)), None).elements.sum().backward()
    assert all((p.grad is not None) == p.requires_grad for p in policy.network.parameters())


def test_seed_decides_the_adapter(open_tiny: Open) -> None:
    def factors(seed: int) -> list[torch.Tensor]:
        policy = LanguagePolicy.load(open_tiny(lora=True).settings, seed=seed)
        return [p for n, p in policy.network.named_parameters() if "lora_A" in n]

    state = torch.random.get_rng_state()
    first, same, other = factors(0), factors(0), factors(1)
    assert torch.equal(torch.random.get_rng_state(), state)  # the global generator is left alone
    assert all(torch.equal(a, b) for a, b in zip(first, same, strict=True))
    assert not torch.equal(first[0], other[0])


def test_reference_has_no_adapter_dropout(open_tiny: Open, pairs: list[Comparison]) -> None:
    policy = open_tiny(lora=True, lora_dropout=0.5)
    batch = policy.collate(policy.encode(pairs))
    step(policy, batch)
    policy.network.train()
    assert torch.equal(before(policy, batch), before(policy, batch))
    a, b = (policy.score(policy.network, batch, None).elements for _ in range(2))
    assert not torch.equal(a, b)  # the adapter's own dropout is on


def test_saved_adapter_scores_the_same_and_trains_further(
    open_tiny: Open, pairs: list[Comparison], tmp_path: Path
) -> None:
    policy = open_tiny(lora=True, lora_rank=4)
    batch = policy.collate(policy.encode(pairs))
    step(policy, batch)
    loaded = policy.score(policy.network, batch, None).elements.detach()
    policy.save(policy.network, tmp_path / "adapter")
    assert {"adapter_config.json", "adapter_model.safetensors"} <= {f.name for f in (tmp_path / "adapter").iterdir()}

    again = open_tiny(folder=tmp_path / "adapter")
    torch.testing.assert_close(again.score(again.network, batch, None).elements, loaded)
    assert again.fingerprint() != policy.fingerprint()  # its reference is not the bare base
    flags = [p.requires_grad for p in again.network.parameters()]
    assert 0 < sum(flags) < len(flags)
    step(again, batch)
    moved = again.score(again.network, batch, None).elements.detach()
    assert (moved - loaded).abs().max() > 1e-3
    torch.testing.assert_close(before(again, batch), loaded)  # the reference is the policy as it was loaded
    assert [p.requires_grad for p in again.network.parameters()] == flags
    torch.testing.assert_close(again.score(again.network, batch, None).elements, moved)

    again.save(again.network, tmp_path / "further")
    assert not (tmp_path / "further" / "reference").exists()
    third = open_tiny(folder=tmp_path / "further")
    torch.testing.assert_close(third.score(third.network, batch, None).elements, moved)


def test_adapter_on_the_output_layer(open_tiny: Open, pairs: list[Comparison]) -> None:
    policy = open_tiny(lora=True, lora_targets="q_proj,lm_head")
    batch = policy.collate(policy.encode(pairs))
    step(policy, batch)
    moved = policy.score(policy.network, batch, None).elements
    head = [p for n, p in policy.network.named_parameters() if "lm_head.lora_B" in n]
    assert len(head) == 1
    assert head[0].abs().max() > 0
    wide = policy.model(batch.inputs["input_ids"][:, : len(policy.encode(pairs)[0].inputs[0].prompt)]).logits
    first = wide[0, -1].log_softmax(-1)[batch.inputs["targets"][0]]
    torch.testing.assert_close(moved[0], first, atol=1e-5, rtol=1e-5)


def test_unknown_target_names_the_layers(open_tiny: Open) -> None:
    with pytest.raises(UserError, match="q_proj"):
        open_tiny(lora=True, lora_targets="query_layer")
