"""Sharing a prompt changes nothing: log-probabilities and every gradient against plain padded batches.

The plain way is the model's own forward pass over one padded sequence per response, whole logits and all.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from rather.policies import shared
from rather.policies.forms import padded_inputs, shared_inputs
from rather.policies.language import disable_dropout
from rather.policies.lora import add_lora
from rather.policies.scorer import LanguageScorer
from rather.policies.settings import PolicySettings
from rather.policies.tokenization import Tokens
from tiny import tiny_lm

LENGTH = 1024
CHANGES: dict[str, dict[str, Any]] = {
    "gpt2": {"n_positions": LENGTH},
    "gemma3_text": {"layer_types": ["sliding_attention", "full_attention"]},
    "mixtral": {"num_local_experts": 4, "sliding_window": 24},
    "qwen3_moe": {"num_experts": 4, "moe_intermediate_size": 16, "num_experts_per_tok": 2},
}
KINDS = ["llama", "qwen2", "qwen3", "gemma2", "gemma3_text", "mistral", "gpt2", "phi", "mixtral", "qwen3_moe"]
VOCABULARY = 300

Shape = Sequence[tuple[int, Sequence[int]]]


@functools.cache
def scorer_of(
    kind: str, lora: str | None = None, checkpointing: bool = False, **changes: Any
) -> tuple[LanguageScorer, str]:
    """A model as it is trained, and the name of its own attention; the same one whenever it is asked for."""
    changes = {"max_position_embeddings": LENGTH, **CHANGES.get(kind, {}), **changes}
    lm = tiny_lm(kind, VOCABULARY, **{k: v for k, v in changes.items() if kind != "gpt2" or not k.startswith("max_")})
    model: Any = lm
    if lora is not None:
        model = add_lora(lm, PolicySettings(model="x", lora_rank=4, lora_targets=lora))
        generator = torch.Generator().manual_seed(1)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:  # zero at first, and then nothing would flow to the other factor
                parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    if checkpointing:
        lm.gradient_checkpointing_enable({"use_reentrant": False})
    disable_dropout(model)
    scorer = LanguageScorer(model).train()
    return scorer, shared.install(lm)


def tokens_of(shape: Shape, seed: int) -> list[Tokens]:
    random = np.random.default_rng(seed)

    def draw(n: int) -> np.ndarray:
        return random.integers(5, VOCABULARY, n).astype(np.int32)

    return [Tokens(draw(prompt), tuple(draw(n) for n in responses)) for prompt, responses in shape]


def measure(scorer: LanguageScorer, inputs: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
    """Log-probabilities, and the gradients of a weighted sum of them by name."""
    scorer.zero_grad(set_to_none=True)
    logps = scorer(**inputs)[0]
    (logps * torch.linspace(-1, 1, logps.numel())).sum().backward()
    return logps.detach(), {name: p.grad for name, p in scorer.named_parameters() if p.grad is not None}


def assert_exact(scorer: LanguageScorer, own: str, tokens: list[Tokens]) -> None:
    lm = scorer.causal_lm
    logps, gradients = measure(scorer, {"form": "shared", **shared_inputs(tokens)})
    lm.set_attn_implementation(own)
    try:
        right, exact = measure(scorer, {"form": "full", **padded_inputs(tokens)})
    finally:
        lm.set_attn_implementation(shared.NAME)
    torch.testing.assert_close(logps, right, atol=1e-5 * float(right.abs().max()), rtol=1e-5)
    assert gradients.keys() == exact.keys()
    assert gradients.keys() == {name for name, p in scorer.named_parameters() if p.requires_grad}
    largest = max(float(gradient.abs().max()) for gradient in exact.values())
    for name, gradient in gradients.items():
        off = float((gradient - exact[name]).abs().max())
        assert off <= 1e-5 * largest, f"{name}: {off / largest:.2g} of the largest gradient"


COMPARISONS = st.tuples(
    st.integers(1, 500), st.lists(st.one_of(st.integers(1, 30), st.integers(1, 300)), min_size=2, max_size=16)
)


@settings(max_examples=16)
@given(
    shape=st.lists(COMPARISONS, min_size=1, max_size=2),
    kind=st.sampled_from(KINDS),
    lora=st.sampled_from([None, "all-linear"]),
    checkpointing=st.booleans(),
    seed=st.integers(0, 100),
)
@example(shape=[(500, [300, 1, 300, 12])], kind="llama", lora=None, checkpointing=False, seed=0)
@example(shape=[(1, [1] * 16), (1, [1, 1])], kind="gemma3_text", lora=None, checkpointing=True, seed=0)
@example(shape=[(300, [12] * 16), (7, [90, 3])], kind="gemma2", lora="all-linear", checkpointing=True, seed=0)
def test_any_shape(shape: Shape, kind: str, lora: str | None, checkpointing: bool, seed: int) -> None:
    scorer, own = scorer_of(kind, lora, checkpointing)
    assert_exact(scorer, own, tokens_of(shape, seed))


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("lora", [None, "all-linear"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_architecture(kind: str, lora: str | None, checkpointing: bool) -> None:
    scorer, own = scorer_of(kind, lora, checkpointing)
    assert_exact(scorer, own, tokens_of([(45, [30, 70, 2, 5, 33]), (3, [2, 19])], 3))


@pytest.mark.parametrize(
    ("kind", "lora", "changes"),
    [
        ("llama", None, {"tie_word_embeddings": True}),
        ("llama", None, {"tie_word_embeddings": False}),
        ("llama", "all-linear", {"tie_word_embeddings": True}),
        ("llama", "q_proj,lm_head", {"tie_word_embeddings": False}),
        ("gemma2", None, {"tie_word_embeddings": False}),
        ("gemma2", "v_proj,lm_head", {"tie_word_embeddings": False}),
        ("phi", "q_proj,lm_head", {}),
    ],
)
def test_heads(kind: str, lora: str | None, changes: dict[str, bool]) -> None:
    """Tied and not, with bias (Phi), soft-capped (Gemma 2), frozen, and with an adapter of its own."""
    scorer, own = scorer_of(kind, lora, **changes)
    trained = {name for name, parameter in scorer.named_parameters() if parameter.requires_grad}
    own_head = lora is None and not changes.get("tie_word_embeddings")
    assert any("lm_head" in name for name in trained) == (own_head or "lm_head" in (lora or ""))
    assert_exact(scorer, own, tokens_of([(9, [30, 11]), (20, [1, 64])], 5))


def test_checkpointing_computes_again_under_the_same_mask() -> None:
    scorer, _ = scorer_of("gemma3_text", None, True)
    seen: list[Any] = []
    attentions = [module for name, module in scorer.named_modules() if name.endswith("self_attn")]
    hooks = [
        module.register_forward_pre_hook(lambda _m, _a, given: seen.append(given["attention_mask"]), with_kwargs=True)
        for module in attentions
    ]
    measure(scorer, {"form": "shared", **shared_inputs(tokens_of([(45, [30, 70])], 3))})
    for hook in hooks:
        hook.remove()
    layers = len(attentions)
    assert all(isinstance(mask, shared.BlockMask) for mask in seen)
    assert len(seen) == 2 * layers
    assert [id(mask) for mask in seen[layers:]] == [id(mask) for mask in seen[layers - 1 :: -1]]
    assert seen[0] is not seen[1]  # one layer has a window


@pytest.mark.parametrize("kind", ["llama", "gemma2"])
def test_weights_in_bfloat16(kind: str) -> None:
    """No farther from the truth than the plain way, which rounds as often."""
    tokens = tokens_of([(40, [30, 70, 2]), (3, [12, 19])], 3)
    scorer, _ = scorer_of(kind)
    truth = measure(scorer, {"form": "shared", **shared_inputs(tokens)})[0]
    small = LanguageScorer(tiny_lm(kind, VOCABULARY, max_position_embeddings=LENGTH).to(torch.bfloat16))
    plain = measure(small, {"form": "full", **padded_inputs(tokens)})
    shared.install(small.causal_lm)
    found = measure(small, {"form": "shared", **shared_inputs(tokens)})
    assert found[0].dtype == torch.float32
    errors = [float((logps.float() - truth).square().mean().sqrt()) for logps in (found[0], plain[0])]
    assert 0 < errors[0] < 1.2 * errors[1]
    for name, gradient in found[1].items():
        assert gradient.dtype == torch.bfloat16
        assert (gradient - plain[1][name]).float().norm() < 0.15 * plain[1][name].float().norm() + 1e-3, name
