"""Frozen weights under adapters."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from rather.policies.pipelines.frozen import hold


@pytest.fixture
def network(tmp_path: Path) -> nn.Sequential:
    """A convolution, a norm and a linear layer, their weights a mapped file's."""
    made = nn.Sequential(nn.Conv2d(2, 4, 1), nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(4, 3))
    save_file(made.state_dict(), tmp_path / "weights.safetensors")
    made.load_state_dict(load_file(tmp_path / "weights.safetensors"), assign=True)
    return made.requires_grad_(False)


def test_multiplied_weights_have_the_type_of_the_products_and_norms_their_own(network: nn.Sequential) -> None:
    before = network.state_dict()
    hold(network, torch.bfloat16)
    for name, parameter in network.named_parameters():
        assert parameter.dtype == (torch.float32 if name.startswith("1.") else torch.bfloat16)
        assert torch.equal(parameter, before[name].to(parameter.dtype))


def test_nothing_frozen_stays_in_the_memory_that_it_was_loaded_into(network: nn.Sequential) -> None:
    network[0].requires_grad_(True)
    before = {name: p.untyped_storage().data_ptr() for name, p in network.named_parameters()}
    hold(network, torch.bfloat16)
    for name, parameter in network.named_parameters():
        assert (parameter.untyped_storage().data_ptr() == before[name]) == name.startswith("0.")
        assert parameter.dtype == (torch.bfloat16 if name.startswith("3.") else torch.float32)
