"""Adapters in one operation: the same numbers as peft's layers, in less memory."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn

from rather.policies.lora_layers import FusedLinear, _LowRank, fuse

IN, OUT = 12, 8


class Three(nn.Module):
    """As an attention layer asks: three layers read the same input."""

    def __init__(self, bias: bool = True) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(IN, OUT, bias=bias) for _ in range(3)])

    def forward(self, x: Tensor) -> Tensor:
        return sum(layer(x) * (row + 1) for row, layer in enumerate(self.layers))  # type: ignore[return-value]


def model(dtype: torch.dtype = torch.float64, bias: bool = True, **options: Any) -> Any:
    """With adapters that are no identity."""
    torch.manual_seed(0)
    made = get_peft_model(Three(bias).to(dtype), LoraConfig(r=3, lora_alpha=5, target_modules=r".*\.\d", **options))
    for name, parameter in made.named_parameters():
        if "lora_" in name:
            nn.init.normal_(parameter, std=0.3)
            parameter.data = parameter.data.to(dtype)
    return made


def both(**options: Any) -> tuple[Any, Any]:
    theirs = model(**options)
    ours = copy.deepcopy(theirs)
    fuse(ours)
    return theirs, ours


def measured(network: Any, x: Tensor, autocast: bool = False) -> dict[str, Tensor]:
    """What comes out, and the gradients of its sum of squares."""
    x = x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16) if autocast else nullcontext():
        found = network(x)
    found.float().square().sum().backward() if autocast else found.square().sum().backward()
    grads = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    assert x.grad is not None
    return {"out": found.detach(), "x": x.grad, **grads}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(4, IN), (2, 3, IN), (IN,)])
def test_values_and_gradients_are_those_of_peft(bias: bool, shape: tuple[int, ...]) -> None:
    theirs, ours = both(bias=bias)
    assert sum(type(layer) is FusedLinear for layer in ours.modules()) == 3
    x = torch.randn(shape, dtype=torch.float64)
    expected, found = measured(theirs, x), measured(ours, x)
    assert expected.keys() == found.keys() and len(found) == 2 + 6
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-12, atol=1e-12)


def test_gradients_by_finite_differences_for_all_that_goes_in() -> None:
    given = [
        torch.randn(size, dtype=torch.float64, requires_grad=True)
        for size in ((2, 3, 4), (5, 4), (5,), (2, 4), (5, 2))
    ]
    assert torch.autograd.gradcheck(lambda *told: _LowRank.apply(*told, 1.7), given)


def test_under_autocast_it_is_as_near_to_exact_as_peft() -> None:
    theirs, ours = both(dtype=torch.float32)
    x = torch.randn(64, IN)
    exact, found = measured(theirs, x), measured(ours, x, autocast=True)
    theirs.zero_grad()
    expected = measured(theirs, x, autocast=True)
    assert found["out"].dtype == torch.bfloat16
    for name, value in exact.items():
        off = {who: (told[name].float() - value).norm() for who, told in (("peft", expected), ("fused", found))}
        assert off["fused"] <= 2 * off["peft"] + 1e-6, name
        assert off["fused"] <= 0.02 * value.norm(), name
        assert found[name].dtype == expected[name].dtype


def test_without_autocast_what_comes_out_has_the_type_of_what_goes_in() -> None:
    theirs, ours = both(dtype=torch.bfloat16)
    x = torch.randn(4, IN, dtype=torch.bfloat16)
    assert ours(x).dtype == theirs(x).dtype == torch.bfloat16


@pytest.mark.parametrize(
    "options", [{"lora_dropout": 0.5}, {"use_dora": True}, {"lora_bias": True}], ids=["dropout", "dora", "bias"]
)
def test_what_it_does_not_know_is_left_to_peft(options: dict[str, Any]) -> None:
    theirs, ours = both(**options)
    x = torch.randn(4, IN, dtype=torch.float64)
    found = []
    for network in (theirs, ours):
        network.train()
        torch.manual_seed(1)
        found.append(measured(network, x))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_layers_that_gather_their_own_weights_are_called() -> None:
    ours, called = both()[1], []
    for layer in ours.base_model.model.layers:
        layer.get_base_layer().register_forward_hook(lambda *told: called.append(told))
    x = torch.randn(4, IN, dtype=torch.float64)
    found = ours(x)
    assert not called
    for layer in ours.base_model.model.layers:
        layer.get_base_layer().weight.ds_id = 0
    torch.testing.assert_close(ours(x), found, rtol=1e-12, atol=1e-12)
    assert len(called) == 3


def test_adapters_can_be_switched_off_merged_and_changed() -> None:
    theirs, ours = both()
    x = torch.randn(4, IN, dtype=torch.float64)
    with ours.disable_adapter(), theirs.disable_adapter():
        plain = theirs(x)
        assert torch.equal(ours(x), plain)
    assert not torch.allclose(ours(x), plain)
    for network in (theirs, ours):
        torch.manual_seed(2)
        network.add_adapter("other", LoraConfig(r=2, target_modules=r".*\.\d", init_lora_weights=False))
        network.set_adapter("other")
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-12, atol=1e-12)
    for network in (theirs, ours):
        network.base_model.set_adapter(["default", "other"])
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-12, atol=1e-12)
    ours.merge_adapter()
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-10, atol=1e-10)


def test_it_is_still_a_layer_of_peft_and_saved_alike() -> None:
    theirs, ours = both()
    assert all(isinstance(layer, Linear) for layer in ours.modules() if type(layer) is FusedLinear)
    assert theirs.state_dict().keys() == ours.state_dict().keys()
    again = copy.deepcopy(ours)
    assert sum(type(layer) is FusedLinear for layer in again.modules()) == 3


@contextmanager
def kept(parameters: set[int]) -> Iterator[dict[int, int]]:
    """Bytes that autograd holds for the backward pass, by storage, parameters left out."""
    found: dict[int, int] = {}

    def pack(x: Tensor) -> Tensor:
        if x.untyped_storage().data_ptr() not in parameters:
            found[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        yield found


def test_less_is_kept_for_the_backward_pass() -> None:
    rows, size = 512, {}
    for name, network in zip(("peft", "fused"), both(dtype=torch.float32), strict=True):
        storages = {p.untyped_storage().data_ptr() for p in network.parameters()}
        x = torch.randn(rows, IN, requires_grad=True)
        with torch.autocast("cpu", torch.bfloat16):
            again = x.to(torch.bfloat16)
            with kept(storages) as held:
                layers = list(network.base_model.model.layers)
                alive = [layer(again) for layer in layers]
        size[name] = sum(held.values())
        assert len(alive) == 3
    assert size["fused"] <= 2 * rows * (IN + 3 * 3)  # once what comes in, and A x of each
    assert size["fused"] < 0.6 * size["peft"]
