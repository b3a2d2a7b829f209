"""Compiled layers: the same numbers, one graph for all layers and lengths, and a way back."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from rather.data.types import Comparison
from rather.policies import compiling, shared
from rather.policies.compiling import compile_layers, run_plain
from rather.policies.forms import shared_inputs
from rather.policies.language import LanguagePolicy
from rather.policies.scorer import LanguageScorer
from rather.policies.tokenization import Tokens
from tiny import tiny_lm

Open = Callable[..., LanguagePolicy]


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def inputs_of(*lengths: int) -> dict[str, Any]:
    random = np.random.default_rng(0)
    parts = [random.integers(5, 300, n).astype(np.int32) for n in lengths]
    return {"form": "shared", **shared_inputs([Tokens(parts[0], tuple(parts[1:]))])}


def measure(scorer: LanguageScorer, inputs: dict[str, Any]) -> tuple[torch.Tensor, list[torch.Tensor]]:
    logps = scorer(**inputs)[0]
    return logps.detach(), list(torch.autograd.grad(logps.sum(), list(scorer.parameters())))


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("kind", ["llama", "gemma2"])
def test_numbers_are_those_of_plain_layers(kind: str, checkpointing: bool) -> None:
    lm = tiny_lm(kind, 300)
    shared.install(lm)
    if checkpointing:
        lm.gradient_checkpointing_enable({"use_reentrant": False})
    scorer = LanguageScorer(lm).train()
    rows = [inputs_of(40, 30, 70), inputs_of(7, 90, 3, 2)]
    expected = [measure(scorer, row) for row in rows]
    assert compile_layers(lm, backend="aot_eager") is None
    for row, (logps, gradients) in zip(rows, expected, strict=True):
        found = measure(scorer, row)
        torch.testing.assert_close(found[0], logps, atol=1e-5, rtol=1e-5)
        largest = max(float(g.abs().max()) for g in gradients)
        for a, b in zip(found[1], gradients, strict=True):
            assert float((a - b).abs().max()) <= 1e-5 * largest


def test_layers_and_lengths_share_their_graphs() -> None:
    made: list[Any] = []

    def backend(graph: Any, _: Any) -> Any:
        made.append(graph)
        return graph.forward

    numbers = []
    for layers in (2, 5):
        torch._dynamo.reset()
        made.clear()
        lm = tiny_lm("llama", 300, num_hidden_layers=layers)
        shared.install(lm)
        compile_layers(lm, backend=backend)  # type: ignore[arg-type]
        scorer = LanguageScorer(lm)
        measure(scorer, inputs_of(9, 5, 6))
        first = len(made)
        for row in (inputs_of(30, 70, 2), inputs_of(3, 3, 80, 4), inputs_of(50, 2)):
            measure(scorer, row)
        assert len(made) == first
        numbers.append(first)
    assert numbers[0] == numbers[1]
    run_plain(lm)
    torch._dynamo.reset()
    made.clear()
    measure(scorer, inputs_of(9, 5, 6))
    assert not made


def test_without_a_compiler_one_warning_and_plain_layers(
    open_tiny: Open, pairs: list[Comparison], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = scores(open_tiny(), pairs)

    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no C++ compiler found\nand much more")

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.warns(UserWarning, match="without --compile") as told:
        policy = open_tiny(compile=True)
    assert [str(w.message) for w in told if "compile" in str(w.message)] == [
        "nothing can be compiled here (no C++ compiler found); training runs without --compile"
    ]
    assert torch.equal(scores(policy, pairs), expected)


def test_a_model_that_computes_something_else_once_compiled_is_left_plain(
    open_tiny: Open, pairs: list[Comparison], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = scores(open_tiny(), pairs)

    def wrong(graph: Any, _: Any) -> Any:
        return lambda *given: tuple(
            out * 1.5 if isinstance(out, torch.Tensor) and out.is_floating_point() else out for out in graph(*given)
        )

    monkeypatch.setattr(compiling, "BACKEND", wrong)
    with pytest.warns(UserWarning, match=r"cannot be compiled \(log-probabilities differ"):
        policy = open_tiny(compile=True)
    assert torch.equal(scores(policy, pairs), expected)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler")
@pytest.mark.filterwarnings("error:.*--compile")
def test_inductor(open_tiny: Open, pairs: list[Comparison]) -> None:
    expected = scores(open_tiny(), pairs)
    policy = open_tiny(compile=True)
    torch.testing.assert_close(scores(policy, pairs), expected, atol=1e-4, rtol=1e-5)


def scores(policy: LanguagePolicy, pairs: list[Comparison]) -> torch.Tensor:
    return policy.score(policy.network, policy.collate(policy.encode(pairs)), None).elements.detach()
