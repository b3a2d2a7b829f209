"""Convolutions as matrix products: the numbers of torch's own."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from rather.policies.pipelines import convolution
from rather.policies.pipelines.convolution import ProductConv2d, _Product, use_products


@pytest.fixture(autouse=True)
def however_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolution, "_MANY", 0)


def layer(**options: Any) -> nn.Conv2d:
    torch.manual_seed(0)
    told: Any = {
        "in_channels": 4,
        "out_channels": 64,
        "kernel_size": 3,
        "padding": 1,
        "dtype": torch.float64,
        **options,
    }
    return nn.Conv2d(**told).requires_grad_(False)


def swapped(theirs: nn.Conv2d) -> nn.Conv2d:
    ours = copy.deepcopy(theirs)
    use_products(ours)
    return ours


def measured(network: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """What comes out, and the gradient of its sum of squares."""
    x = x.clone().requires_grad_()
    found = network(x)
    return found.detach(), torch.autograd.grad(found.float().square().sum(), x)[0]


@given(
    n=st.integers(1, 3), channels=st.integers(1, 5), out=st.integers(1, 6), height=st.integers(1, 5),
    width=st.integers(1, 5), half=st.integers(0, 2), bias=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_the_product_is_the_convolution(
    n: int, channels: int, out: int, height: int, width: int, half: int, bias: bool, seed: int
) -> None:
    side, drawn = 2 * half + 1, torch.Generator().manual_seed(seed)
    normal: Any = {"generator": drawn, "dtype": torch.float64}
    x, g = torch.randn(n, channels, height, width, **normal), torch.randn(n, out, height, width, **normal)
    w, b = torch.randn(out, channels, side, side, **normal), torch.randn(out, **normal) if bias else None
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    found, expected = _Product.apply(ours, w, b), nn.functional.conv2d(theirs, w, b, padding=half)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    (of_ours,), (of_theirs,) = torch.autograd.grad(found, ours, g), torch.autograd.grad(expected, theirs, g)
    torch.testing.assert_close(of_ours, of_theirs, rtol=1e-12, atol=1e-12)


def test_gradients_by_finite_differences() -> None:
    conv, x = layer(out_channels=3), torch.randn(2, 4, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: _Product.apply(x, conv.weight, conv.bias), (x,))


@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
def test_under_autocast_it_rounds_as_the_convolution_does(form: torch.memory_format) -> None:
    theirs = layer(dtype=torch.float32)
    ours, x = swapped(theirs), torch.randn(2, 4, 4, 4).to(memory_format=form)
    exact, of_exact = measured(theirs, x)
    with torch.autocast("cpu", torch.bfloat16):
        found, of_found = measured(ours, x)
    assert found.dtype == torch.bfloat16 and of_found.dtype == torch.float32
    assert (found - exact).norm() < 5e-3 * exact.norm()
    assert (of_found - of_exact).norm() < 1e-2 * of_exact.norm()


@pytest.mark.parametrize("pixels", [4, 16])
def test_products_are_taken_where_images_are_small(pixels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[Tensor] = []

    def record(x: Tensor, *_: Any) -> Tensor:
        taken.append(x)
        return x

    monkeypatch.setattr(_Product, "apply", record)
    swapped(layer())(torch.zeros(2, 4, pixels, 4, dtype=torch.float64))
    assert len(taken) == (2 * 2 * pixels * 4 <= 64)


@pytest.mark.parametrize(
    "options",
    [{"stride": 2}, {"groups": 2}, {"dilation": 2, "padding": 2}, {"padding": 0}, {"padding_mode": "circular"},
     {"kernel_size": 2, "padding": 0}, {"kernel_size": (1, 3), "padding": (0, 1)}],
)  # fmt: skip
def test_other_convolutions_stay_as_they_are(options: dict[str, Any]) -> None:
    assert type(swapped(layer(**options))) is nn.Conv2d


def test_so_do_trained_ones_and_those_with_few_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    assert type(swapped(layer())) is ProductConv2d
    assert type(swapped(layer().requires_grad_(True))) is nn.Conv2d
    monkeypatch.setattr(convolution, "_MANY", 1 << 21)
    assert type(swapped(layer())) is nn.Conv2d


def test_a_layer_keeps_its_weights_under_their_names() -> None:
    theirs = layer(padding="same")
    ours = swapped(theirs)
    assert type(ours) is ProductConv2d
    assert all(torch.equal(ours.state_dict()[name], weight) for name, weight in theirs.state_dict().items())
