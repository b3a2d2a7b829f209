"""The chunked head: values and gradients against the plain form, finite differences, memory."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from rather.policies import head as module
from rather.policies.head import LogitForm, plain_token_logps, token_logps

FORMS = [LogitForm(), LogitForm(scale=0.25), LogitForm(cap=2.0), LogitForm(scale=3.0, cap=1.5)]


def example(n: int = 13, d: int = 6, v: int = 19, bias: bool = True, dtype: torch.dtype = torch.float64) -> tuple:
    torch.manual_seed(n)
    head = nn.Linear(d, v, bias=bias, dtype=dtype)
    return torch.randn(n, d, dtype=dtype, requires_grad=True), head, torch.randint(0, v, (n,))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("chunk", [1, 5, 100])
def test_values_and_gradients_equal_the_plain_form(form: LogitForm, bias: bool, chunk: int) -> None:
    hidden, head, targets = example(bias=bias)
    weights = torch.randn(len(targets), dtype=torch.float64)
    inputs = [hidden, *head.parameters()]
    expected = plain_token_logps(hidden, head, targets, form)
    found, _ = token_logps(hidden, head, targets, form, chunk=chunk)
    torch.testing.assert_close(found, expected)
    for a, b in zip(
        torch.autograd.grad((found * weights).sum(), inputs),
        torch.autograd.grad((expected * weights).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("frozen", [True, False])
def test_gradient_by_finite_differences(form: LogitForm, frozen: bool) -> None:
    hidden, head, targets = example(n=4, d=3, v=5)
    head.requires_grad_(not frozen)

    def scores(h: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return module._ChunkedHead.apply(h, w, b, targets, form, torch.float64, 3, False, True)[0]

    assert torch.autograd.gradcheck(scores, (hidden, head.weight, head.bias))


def test_frozen_head_gets_no_gradient_and_the_hidden_state_the_same() -> None:
    hidden, head, targets = example()
    (trained,) = torch.autograd.grad(token_logps(hidden, head, targets, LogitForm())[0].sum(), hidden)
    head.requires_grad_(False)
    token_logps(hidden, head, targets, LogitForm(), chunk=4)[0].sum().backward()
    torch.testing.assert_close(hidden.grad, trained)
    assert head.weight.grad is None


@pytest.mark.parametrize("wrapped", [True, False])
def test_entropy(wrapped: bool) -> None:
    hidden, head, targets = example()
    layer = nn.Sequential(head) if wrapped else head
    _, entropy = token_logps(hidden, layer, targets, LogitForm(cap=2.0), entropy=True, chunk=4)
    logits = LogitForm(cap=2.0)(head(hidden))
    torch.testing.assert_close(entropy, torch.distributions.Categorical(logits=logits).entropy())
    assert entropy is not None
    assert not entropy.requires_grad


def test_a_head_that_is_not_plain_is_called_as_a_module() -> None:
    hidden, head, targets = example()
    head.register_forward_hook(lambda _m, _i, out: out * 2)
    expected = (2 * nn.functional.linear(hidden, head.weight, head.bias)).log_softmax(-1)[range(13), targets]
    found, _ = token_logps(hidden, head, targets, LogitForm(), chunk=5)
    torch.testing.assert_close(found, expected)
    a, b = (torch.autograd.grad(x.sum(), [hidden, head.weight]) for x in (found, expected))
    torch.testing.assert_close(a, b)


def test_a_row_does_not_depend_on_the_others() -> None:
    hidden, head, targets = example(n=40, dtype=torch.float32)
    whole, _ = token_logps(hidden, head, targets, LogitForm(), chunk=7)
    parts = [token_logps(hidden[i : i + 1], head, targets[i : i + 1], LogitForm())[0] for i in range(40)]
    torch.testing.assert_close(whole, torch.cat(parts), atol=1e-6, rtol=1e-6)


def test_statistics_are_float32_under_autocast() -> None:
    hidden, head, targets = example(n=9, d=16, v=300, dtype=torch.float32)
    exact = plain_token_logps(hidden, head, targets, LogitForm())
    with torch.autocast("cpu", torch.bfloat16):
        found, _ = token_logps(hidden, head, targets, LogitForm())
    found.sum().backward()
    assert found.dtype == torch.float32
    assert hidden.grad is not None
    assert hidden.grad.dtype == torch.float32
    # Rounded inputs of the product, but no rounding of the sum over the vocabulary: far better than bfloat16's 2e-2.
    torch.testing.assert_close(found, exact, atol=1e-2, rtol=2e-3)


@pytest.mark.parametrize("frozen", [True, False])
def test_no_tensor_is_larger_than_a_chunk_of_logits(frozen: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Largest tensor any operation makes, forward and backward, does not grow with the number of rows."""
    vocabulary, width, chunk = 1000, 4, 16

    class Largest(TorchDispatchMode):
        size = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            out = func(*args, **(kwargs or {}))
            for value in out if isinstance(out, tuple | list) else (out,):
                if isinstance(value, Tensor):
                    Largest.size = max(Largest.size, value.untyped_storage().nbytes() // value.element_size())
            return out

    sizes = []
    for rows in (64, 512):
        hidden, head, targets = example(n=rows, d=width, v=vocabulary, bias=False, dtype=torch.float32)
        head.requires_grad_(not frozen)
        Largest.size = 0
        with Largest():
            token_logps(hidden, head, targets, LogitForm(), chunk=chunk)[0].sum().backward()
        sizes.append(Largest.size)
    assert sizes[0] == sizes[1] == chunk * vocabulary


class Ledger(TorchDispatchMode):
    """Counts the values that operations write."""

    def __init__(self) -> None:
        super().__init__()
        self.written = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = func(*args, **(kwargs or {}))
        views = any(r.alias_info is not None and not r.alias_info.is_write for r in func._schema.returns)
        for value in out if isinstance(out, tuple | list) else (out,):
            if isinstance(value, Tensor) and not views:
                self.written += value.numel()
        return out


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("chunk", [16, 64, 1000])
def test_evaluation_does_no_more_than_the_training_forward_and_keeps_nothing(frozen: bool, chunk: int) -> None:
    hidden, head, targets = example(n=100, d=8, v=500, dtype=torch.float32)
    head.requires_grad_(not frozen)
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    def work(training: bool) -> tuple[int, int]:
        kept.clear()
        with (
            torch.set_grad_enabled(training),
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
            FlopCounterMode(display=False) as products,
            Ledger() as ledger,
        ):
            token_logps(hidden, head, targets, LogitForm(), chunk=chunk)
        return products.get_total_flops(), ledger.written

    training, saved = work(training=True), sum(t.numel() for t in kept)
    evaluation = work(training=False)
    assert saved > 0
    assert not kept
    assert evaluation[0] <= training[0]
    assert evaluation[1] <= training[1]
    assert evaluation[0] == 2 * 100 * 8 * 500


@pytest.mark.parametrize("frozen", [True, False])
def test_what_is_kept_for_backward_is_one_chunk_of_logits_at_most(frozen: bool) -> None:
    vocabulary, width, chunk = 1000, 4, 16
    for rows in (16, 64, 500):
        hidden, head, targets = example(n=rows, d=width, v=vocabulary, bias=False, dtype=torch.float32)
        head.requires_grad_(not frozen)
        kept: list[Tensor] = []

        def keep(tensor: Tensor, kept: list[Tensor] = kept) -> Tensor:
            kept.append(tensor)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            token_logps(hidden, head, targets, LogitForm(), chunk=chunk)
        whole = [tensor for tensor in kept if vocabulary in tensor.shape and tensor.shape != head.weight.shape]
        assert [tensor.shape for tensor in whole] == ([] if frozen else [(rows % chunk or chunk, vocabulary)])


def test_form_is_read_from_the_configuration() -> None:
    from tiny import tiny_config

    assert LogitForm.of(tiny_config("llama", 300)) == LogitForm()
    assert LogitForm.of(tiny_config("gemma2", 300)) == LogitForm(cap=5.0)
    assert LogitForm.of(tiny_config("cohere", 300, logit_scale=0.5)) == LogitForm(scale=0.5)
    assert LogitForm.of(tiny_config("granite", 300, logits_scaling=4.0)) == LogitForm(scale=0.25)
