"""Which layout of its input a loaded model computes rightly, found out by trying.

Architectures differ in ways that a name does not tell, and a model that ignores a mask is silently wrong. So the fast
forms are compared with one sequence at a time through the model's own full forward pass: values and a gradient.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from rather.policies import shared
from rather.policies.compiling import compile_layers, run_plain
from rather.policies.forms import padded_inputs, shared_inputs
from rather.policies.scorer import LanguageScorer
from rather.policies.tokenization import Tokens

Form = Literal["shared", "padded", "full"]

_SHAPE = ((11, (5, 1, 3)), (1, (2, 4)))  # prompt length, response lengths
# A wrong mask or position is orders of magnitude outside, rounding well inside.
_TOLERANCE = {torch.float32: (1e-3, 1e-2), torch.float64: (1e-8, 1e-7)}
_LOW_PRECISION = (0.3, 0.3)


def choose_form(scorer: LanguageScorer, tokenizer: Any, encoding: str) -> tuple[Form, str | None]:
    """The fastest form that is right for this model.

    Args:
        scorer: around the loaded model; left as it was, but for the attention implementation where prompts are shared.
        encoding: ``padded`` leaves sharing untried.

    Returns:
        The form, and one sentence to warn with where it is not the wanted one.
    """
    name, trouble = type(scorer.causal_lm).__name__, None
    tokens = _examples(scorer.causal_lm, tokenizer)
    with _measuring(scorer) as probe:
        expected = _measure(scorer, probe, _one_at_a_time(tokens))
        if encoding != "padded":
            before = shared.install(scorer.causal_lm)
            trouble = _differs(scorer, probe, [{"form": "shared", **shared_inputs(tokens)}], expected)
            if trouble is None:
                return "shared", None
            if scorer.causal_lm.config._attn_implementation == shared.NAME:
                scorer.causal_lm.set_attn_implementation(before)
        padded = _differs(scorer, probe, [{"form": "padded", **padded_inputs(tokens)}], expected)
    if padded is None:
        if encoding == "padded":
            return "padded", None
        return "padded", f"{name} cannot share a prompt among its responses ({trouble}); each is computed with its own"
    return "full", f"{name} cannot be split into body and head ({padded}); whole logits are computed, slow and large"


def compile_checked(scorer: LanguageScorer, tokenizer: Any, form: Form) -> str | None:
    """Compile the model's layers, unless that changes what they compute.

    Returns:
        One sentence to warn with where they are not compiled.
    """
    lm = scorer.causal_lm
    tokens = _examples(lm, tokenizer)
    batch = {"form": form, **(shared_inputs(tokens) if form == "shared" else padded_inputs(tokens))}
    with _measuring(scorer) as probe:
        expected = _measure(scorer, probe, [batch])
        if trouble := compile_layers(lm):
            return trouble
        trouble = _differs(scorer, probe, [batch], expected)
    if trouble is None:
        return None
    run_plain(lm)
    return f"{type(lm).__name__} cannot be compiled ({trouble}); it runs without --compile"


def _examples(lm: Any, tokenizer: Any) -> list[Tokens]:
    """Random ordinary tokens, the same on every machine."""
    random = np.random.default_rng(0)
    size = lm.get_input_embeddings().weight.shape[0]
    special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    usual = np.array([i for i in range(min(size, len(tokenizer))) if i not in special] or [0])

    def draw(n: int) -> np.ndarray:
        return random.choice(usual, n).astype(np.int32)

    return [Tokens(draw(prompt), tuple(draw(n) for n in responses)) for prompt, responses in _SHAPE]


def _one_at_a_time(tokens: list[Tokens]) -> list[dict[str, Any]]:
    alone = [Tokens(t.prompt, (response,)) for t in tokens for response in t.responses]
    return [{"form": "full", **padded_inputs([t])} for t in alone]


@contextmanager
def _measuring(scorer: LanguageScorer) -> Iterator[nn.Parameter]:
    """Eval mode in the weights' own type; of all parameters only a small early one requires a gradient."""
    dtype, training = scorer.dtype, scorer.training
    probe = _probe(scorer)
    flags = [(parameter, parameter.requires_grad) for parameter in scorer.parameters()]
    scorer.dtype = torch.float32
    scorer.eval()
    for parameter, _ in flags:
        parameter.requires_grad_(parameter is probe)
    try:
        yield probe
    finally:
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
        scorer.train(training)
        scorer.dtype = dtype


def _probe(scorer: LanguageScorer) -> nn.Parameter:
    """The first vector among the model's weights (a norm before the first layer's attention, usually)."""
    floating = [p for n, p in scorer.causal_lm.named_parameters() if p.is_floating_point() and "lora_" not in n]
    return next((p for p in floating if p.dim() == 1), min(floating, key=Tensor.numel))


def _measure(scorer: LanguageScorer, probe: nn.Parameter, batches: list[dict[str, Any]]) -> tuple[Tensor, Tensor]:
    """Log-probabilities of all elements, and the gradient of a weighted sum of them."""
    device = probe.device
    with torch.enable_grad():
        parts = []
        for batch in batches:
            moved = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in batch.items()}
            parts.append(scorer(**moved)[0])
        logps = torch.cat(parts)
        weights = torch.linspace(0.5, 1.5, logps.numel(), device=device).to(logps)
        (gradient,) = torch.autograd.grad((logps * weights).sum(), [probe])
    return logps.detach(), gradient


def _differs(
    scorer: LanguageScorer, probe: nn.Parameter, batches: list[dict[str, Any]], expected: tuple[Tensor, Tensor]
) -> str | None:
    """What is wrong with a form, or ``None``."""
    try:
        logps, gradient = _measure(scorer, probe, batches)
    except Exception as error:  # models raise whatever they like when they meet an input they do not know
        return (str(error).strip() or type(error).__name__).splitlines()[0]
    absolute, relative = _TOLERANCE.get(probe.dtype, _LOW_PRECISION)
    off = float((logps - expected[0]).abs().max())
    if not off <= absolute:
        return f"log-probabilities differ by {off:.2g} from one sequence at a time"
    off = float((gradient - expected[1]).abs().max() / expected[1].abs().max().clamp_min(1e-12))
    return None if off <= relative else f"gradients differ by {off:.2g} (relative) from one sequence at a time"
