"""How token ids become a model's input: one padded sequence per response, or each prompt once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from rather.policies.tokenization import Tokens


def padded_inputs(tokens: Sequence[Tokens]) -> dict[str, Any]:
    """One row per response: prompt, response, padding (the row's last token again: no position that matters sees it).

    Returns:
        ``input_ids`` [R, L], ``positions`` [E] (flat, of the position that predicts each token), ``targets`` [E], and
        ``weight`` [E] where tokens have weights.
    """
    rows = [np.concatenate([t.prompt, r]) for t in tokens for r in t.responses]
    width = max(map(len, rows))
    input_ids = np.stack([np.pad(row, (0, width - len(row)), mode="edge") for row in rows]).astype(np.int64)
    spans = [(len(t.prompt), len(r)) for t in tokens for r in t.responses]
    positions = [np.arange(size) + (row * width + start - 1) for row, (start, size) in enumerate(spans)]
    return {"input_ids": torch.from_numpy(input_ids), **_elements(tokens, positions)}


def shared_inputs(tokens: Sequence[Tokens]) -> dict[str, Any]:
    """All comparisons in one row without padding, each as prompt, response, response, ...

    The first token of every response is predicted by the prompt's last position.

    Returns:
        ``input_ids`` [1, T]; ``position_ids`` [1, T], which go on from the prompt in each response; ``sizes``, the
        lengths of prompt and responses of each comparison; ``positions`` [E]; ``targets`` [E]; and ``weight`` [E]
        where tokens have weights.
    """
    ids: list[np.ndarray] = []
    logical: list[np.ndarray] = []
    positions: list[np.ndarray] = []
    sizes: list[tuple[int, ...]] = []
    offset = 0
    for t in tokens:
        prompt = len(t.prompt)
        ids += [t.prompt, *t.responses]
        logical.append(np.arange(prompt))
        start = offset + prompt
        for response in t.responses:
            size = len(response)
            logical.append(np.arange(prompt, prompt + size))
            positions.append(np.concatenate([[offset + prompt - 1], np.arange(start, start + size - 1)]))
            start += size
        offset = start
        sizes.append((prompt, *t.lengths))
    return {
        "input_ids": _row(ids),
        "position_ids": _row(logical),
        "sizes": tuple(sizes),
        **_elements(tokens, positions),
    }


def _elements(tokens: Sequence[Tokens], positions: list[np.ndarray]) -> dict[str, Any]:
    targets = np.concatenate([response for t in tokens for response in t.responses])
    found = {
        "positions": torch.from_numpy(np.concatenate(positions).astype(np.int64)),
        "targets": torch.from_numpy(targets.astype(np.int64)),
    }
    if any(t.weights for t in tokens):
        each = [t.weights or tuple(np.ones(len(r), np.float32) for r in t.responses) for t in tokens]
        found["weight"] = torch.from_numpy(np.concatenate([weights for of_one in each for weights in of_one]))
    return found


def _row(parts: list[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.concatenate(parts).astype(np.int64))[None]
