"""Answers to held-out prompts, sampled before and after training, side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rather.policies.base import Encoded, Policy
from rather.training.config import TrainConfig
from rather.training.record import write_text


def can_sample(policy: Policy) -> bool:
    """Whether the policy can answer: by a ``sample`` of its own, or with a model and tokenizer for generation."""
    own: Any = policy
    return callable(getattr(own, "sample", None)) or (hasattr(own, "model") and hasattr(own, "tokenizer"))


def sample(policy: Policy, encoded: Sequence[Encoded], config: TrainConfig) -> list[tuple[str, int]]:
    """One answer (text, number of tokens) for each comparison's prompt, the same randomness each time."""
    own: Any = policy
    if callable(getattr(own, "sample", None)):
        prompts = [item.comparison.prompt for item in encoded]
        answers = own.sample(own.network, prompts, max_new_tokens=config.sample_tokens, seed=config.seed)
        return [(str(answer), len(str(answer).split())) for answer in answers]
    from rather.sampling.generate import generate

    prompts = [list(item.inputs[0].prompt) for item in encoded]
    with own.sampling():
        found = generate(
            own.model, own.tokenizer, prompts, max_new_tokens=config.sample_tokens, seed=config.seed, temperature=0.7
        )
    return [(answers[0].text, len(answers[0].ids)) for answers in found]


def chosen(policy: Policy, encoded: Sequence[Encoded], config: TrainConfig) -> list[Encoded]:
    """The first held-out comparisons with different prompts whose prompt leaves room for an answer."""
    own: Any = policy
    model_config = getattr(getattr(own, "model", None), "config", None)
    context = getattr(model_config, "max_position_embeddings", None)
    found: dict[str, Encoded] = {}
    for item in encoded:
        prompt = getattr(item.inputs, "prompt", ())
        if context is None or len(prompt) + config.sample_tokens <= context:
            found.setdefault(repr(item.comparison.prompt), item)
        if len(found) == config.sample_prompts:
            break
    return list(found.values())


def write(path: Path, encoded: Sequence[Encoded], before: Sequence[str], after: Sequence[str] | None) -> None:
    """``samples.jsonl``: prompt, before, after (``null`` until it is known)."""
    rows = []
    for position, (item, text) in enumerate(zip(encoded, before, strict=True)):
        later = after[position] if after is not None else None
        prompt = item.comparison.prompt
        plain = (
            prompt
            if isinstance(prompt, str)
            else [dict(message) for message in prompt]
            if isinstance(prompt, tuple)
            else str(prompt)
        )
        rows.append({"prompt": plain, "before": text, "after": later, "checks": None})
    write_text(path, "".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows))


def read_before(path: Path) -> list[str]:
    """The answers before training that an interrupted run has written."""
    if not path.exists():
        return []
    return [str(json.loads(line)["before"]) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
