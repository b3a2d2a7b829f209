"""The layouts of input: shared prompts and padding against one sequence at a time through the whole model."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rather.policies import block_mask, shared
from rather.policies.forms import padded_inputs, shared_inputs
from rather.policies.scorer import LanguageScorer
from rather.policies.selfcheck import choose_form
from rather.policies.tokenization import Tokens
from tiny import tiny_lm, tiny_tokenizer

SHARING = ["llama", "qwen2", "qwen3", "gemma2", "gemma3_text", "mistral", "gpt2", "phi", "gpt_oss", "cohere"]
VOCABULARY = 300


def scorer_of(kind: str, **changes: Any) -> LanguageScorer:
    if kind == "gpt_oss":
        changes = {"sliding_window": 8, "num_local_experts": 4, "head_dim": 8, **changes}
    return LanguageScorer(tiny_lm(kind, VOCABULARY, **changes))


@pytest.fixture(scope="module")
def scorers() -> dict[str, LanguageScorer]:
    made = {kind: scorer_of(kind) for kind in SHARING}
    for scorer in made.values():
        shared.install(scorer.causal_lm)
    return made


def random_tokens(shape: list[tuple[int, list[int]]], seed: int) -> list[Tokens]:
    random = np.random.default_rng(seed)

    def draw(n: int) -> np.ndarray:
        return random.integers(5, VOCABULARY, n).astype(np.int32)

    return [Tokens(draw(prompt), tuple(draw(n) for n in responses)) for prompt, responses in shape]


def measure(scorer: LanguageScorer, batches: list[dict[str, Any]]) -> tuple[torch.Tensor, list[torch.Tensor]]:
    logps = torch.cat([scorer(**batch)[0] for batch in batches])
    weights = torch.linspace(-1, 1, logps.numel())
    parameters = list(scorer.parameters())
    return logps.detach(), list(torch.autograd.grad((logps * weights).sum(), parameters, allow_unused=True))


def one_at_a_time(tokens: list[Tokens]) -> list[dict[str, Any]]:
    return [{"form": "full", **padded_inputs([Tokens(t.prompt, (r,))])} for t in tokens for r in t.responses]


def assert_same(scorer: LanguageScorer, tokens: list[Tokens], form: str) -> None:
    inputs = shared_inputs(tokens) if form == "shared" else padded_inputs(tokens)
    expected, exact = measure(scorer, one_at_a_time(tokens))
    logps, gradients = measure(scorer, [{"form": form, **inputs}])
    torch.testing.assert_close(logps, expected, atol=1e-5, rtol=1e-5)
    for found, right in zip(gradients, exact, strict=True):
        assert (found is None) == (right is None)
        if found is not None:
            scale = float(right.abs().max().clamp_min(1.0))
            torch.testing.assert_close(found / scale, right / scale, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("form", ["shared", "padded"])
@pytest.mark.parametrize("kind", SHARING)
def test_equals_one_sequence_at_a_time(scorers: dict[str, LanguageScorer], kind: str, form: str) -> None:
    shape = [(40, [3, 25, 1]), (1, [4, 2]), (19, [18])]  # longer than the windows of 16 and 8
    assert_same(scorers[kind], random_tokens(shape, 1), form)


SHAPES = st.lists(
    st.tuples(st.integers(1, 100), st.lists(st.integers(1, 30), min_size=1, max_size=7)), min_size=1, max_size=3
)


@settings(max_examples=25, deadline=None)
@given(shape=SHAPES, kind=st.sampled_from(SHARING), seed=st.integers(0, 1000))
def test_equals_one_sequence_at_a_time_for_any_shape(
    scorers: dict[str, LanguageScorer], shape: list[tuple[int, list[int]]], kind: str, seed: int
) -> None:
    assert_same(scorers[kind], random_tokens(shape, seed), "shared")


def test_a_window_shorter_than_the_prompt_matters(scorers: dict[str, LanguageScorer]) -> None:
    """The windowed tests above would be empty if the window changed nothing."""
    tokens = random_tokens([(40, [10])], 0)
    windowed = scorers["mistral"](form="shared", **shared_inputs(tokens))[0]
    wide = scorer_of("mistral", sliding_window=None)
    wide.load_state_dict(scorers["mistral"].state_dict())
    assert (windowed - wide(form="padded", **padded_inputs(tokens))[0]).abs().max() > 0.01


@pytest.mark.parametrize(
    ("kind", "form"),
    [*((kind, "shared") for kind in SHARING), ("bloom", "padded"), ("falcon", "padded"), ("mamba", "padded")],
)
def test_self_check_finds_the_form(kind: str, form: str) -> None:
    scorer = scorer_of(kind)
    found, warning = choose_form(scorer, tiny_tokenizer(vocab_size=VOCABULARY), "auto")
    assert found == form
    assert (warning is None) == (form == "shared")
    assert all(parameter.grad is None for parameter in scorer.parameters())


def test_self_check_can_be_told_to_pad() -> None:
    scorer = scorer_of("llama")
    assert choose_form(scorer, tiny_tokenizer(vocab_size=VOCABULARY), "padded") == ("padded", None)
    assert scorer.causal_lm.config._attn_implementation == "sdpa"


def test_self_check_rejects_a_wrong_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sharing that lets responses see each other is found out, and the model's attention put back."""
    real = block_mask._allowed

    def leaky(function: Any, start: int, lengths: tuple[int, ...], device: torch.device) -> torch.Tensor:
        every = torch.ones(sum(lengths), sum(lengths), dtype=torch.bool)
        return real(function, start, lengths, device) | every.tril()

    monkeypatch.setattr(block_mask, "_allowed", leaky)
    scorer = scorer_of("llama")
    form, warning = choose_form(scorer, tiny_tokenizer(vocab_size=VOCABULARY), "auto")
    assert form == "padded"
    assert warning is not None
    assert "log-probabilities differ" in warning
    assert scorer.causal_lm.config._attn_implementation == "sdpa"


def test_self_check_falls_back_to_whole_logits_when_the_head_is_more_than_a_matrix() -> None:
    scorer = scorer_of("llama")
    lm = scorer.causal_lm
    plain = lm.forward

    def scaled(*args: Any, **kwargs: Any) -> Any:
        out = plain(*args, **kwargs)
        out.logits = out.logits * 1.5
        return out

    lm.forward = scaled
    form, warning = choose_form(scorer, tiny_tokenizer(vocab_size=VOCABULARY), "auto")
    assert form == "full"
    assert warning is not None


@pytest.mark.parametrize("kind", ["llama", "gemma2", "gpt_oss"])
def test_installed_attention_leaves_other_uses_alone(kind: str) -> None:
    """Batches with padding on the left and generation with a cache give what they gave before."""
    lm = scorer_of(kind).causal_lm
    ids = torch.randint(5, VOCABULARY, (2, 21), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[0, :6] = 0

    def use() -> tuple[torch.Tensor, torch.Tensor]:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logits = lm(input_ids=ids, attention_mask=mask).logits[mask.bool()]
            return logits, lm.generate(input_ids=ids, attention_mask=mask, max_new_tokens=12, do_sample=False)

    logits, tokens = use()
    shared.install(lm)
    after_logits, after_tokens = use()
    torch.testing.assert_close(after_logits, logits, atol=1e-5, rtol=1e-5)
    assert torch.equal(after_tokens, tokens)
