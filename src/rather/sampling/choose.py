"""Choosing the next token, reproducibly for each row on its own.

Each row of a batch has its own stream of uniform numbers, so what a row draws does not depend on the rows beside it,
on the batch size, or on the global random state, which is left alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import LogitsProcessor

_HEAD = 512  # most nuclei are smaller; a partial sort of the vocabulary is far cheaper than a whole one


def uniforms(seed: int, rows: Sequence[tuple[int, int]], steps: int) -> torch.Tensor:
    """One stream of uniforms in [0, 1) for each (prompt index, sample index): ``[len(rows), steps]``, float64."""
    streams = [np.random.default_rng([seed, prompt, sample]).random(steps) for prompt, sample in rows]
    return torch.from_numpy(np.stack(streams))


def draw(logits: torch.Tensor, u: torch.Tensor, *, temperature: float, top_p: float) -> torch.Tensor:
    """Inverse-CDF sampling: token ids ``[batch]``.

    Args:
        logits: ``[batch, vocab]``, float32.
        u: ``[batch]``, float64, in [0, 1).
        temperature: positive.
        top_p: keep the fewest most likely tokens whose probability reaches this (arXiv:1904.09751); 1 keeps all.
    """
    probs = (logits if temperature == 1 else logits / temperature).softmax(dim=-1)
    if top_p >= 1:
        return _invert(probs, u)
    top, order = probs.topk(min(_HEAD, probs.shape[-1]), dim=-1)
    chosen = order.gather(-1, _invert(_nucleus(top, top_p), u).unsqueeze(-1)).squeeze(-1)
    wide = top.sum(dim=-1) < top_p  # the nucleus reaches beyond the head: only these rows pay for a sort
    if wide.any():
        top, order = probs[wide].sort(dim=-1, descending=True)
        chosen[wide] = order.gather(-1, _invert(_nucleus(top, top_p), u[wide]).unsqueeze(-1)).squeeze(-1)
    return chosen


def _nucleus(descending: torch.Tensor, top_p: float) -> torch.Tensor:
    """Zero where the tokens before have reached ``top_p`` already; the first always stays."""
    return descending.masked_fill(descending.cumsum(dim=-1) - descending >= top_p, 0.0)


def _invert(weights: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """The first index whose cumulative weight exceeds ``u`` of the total, so never one of weight zero."""
    cumulative = weights.cumsum(dim=-1)
    total = cumulative[:, -1:]
    below = torch.nextafter(total, torch.zeros_like(total))  # rounding must not lift u * total to the total
    target = torch.minimum(u.to(total).unsqueeze(-1) * total, below)
    return torch.searchsorted(cumulative, target, right=True).squeeze(-1)


@dataclass(frozen=True)
class Choice:
    """How the next token of each row is taken.

    Attributes:
        u: [rows, steps] uniforms; ``None`` takes the most likely token.
        temperature: divides the logits; 0 takes the most likely token.
        top_p: see ``draw``.
        banned: [rows, vocab], true where a token is never taken.
    """

    u: torch.Tensor | None
    temperature: float = 1.0
    top_p: float = 1.0
    banned: torch.Tensor | None = None

    def __call__(self, logits: torch.Tensor, rows: torch.Tensor, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens [batch] and their log-probabilities [batch]: the model's own, before temperature, top-p and bans.

        Args:
            logits: [batch, vocab].
            rows: [batch], which row each of them continues.
            step: number of tokens so far.
        """
        logits = logits.float()
        allowed = logits
        if self.banned is not None:
            allowed = logits.masked_fill(self.banned[rows.to(self.banned.device)].to(logits.device), -torch.inf)
        if self.u is None or self.temperature == 0:
            tokens = allowed.argmax(dim=-1)
        else:
            u = self.u[rows.to(self.u.device), step].to(logits.device)
            tokens = draw(allowed, u, temperature=self.temperature, top_p=self.top_p)
        return tokens, logits.gather(-1, tokens.unsqueeze(-1)).squeeze(-1) - logits.logsumexp(dim=-1)


class ChoiceProcessor(LogitsProcessor):
    """Turns greedy search into a ``Choice``.

    Greedy search takes the argmax of what this returns: scores that are 0 at the chosen token and -inf elsewhere.

    Attributes:
        logps: one [batch] tensor for each step.
    """

    def __init__(self, choice: Choice) -> None:
        self.choice = choice
        self.logps: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """``input_ids`` [batch, so far] is not used; ``scores`` [batch, vocab] are the raw logits."""
        rows = torch.arange(len(scores), device=scores.device)
        tokens, logps = self.choice(scores, rows, len(self.logps))
        self.logps.append(logps)
        return torch.full_like(scores, -torch.inf).scatter_(-1, tokens.unsqueeze(-1), 0.0)
