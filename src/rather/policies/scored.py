"""The extras of a language model's scores: what an objective may want beside log-probabilities."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from rather.policies.activations import Recorder
from rather.policies.divergence import token_kl
from rather.policies.head import LogitForm, chunk_rows

OF_STATES = frozenset({"states", "layers", "activations", "kl", "entropy"})
"""Extras that need a model that can be split into body and head."""

Head = Callable[[Tensor], Tensor]


def extras_of(
    wants: frozenset[str],
    states: Tensor,
    head: nn.Module,
    form: LogitForm,
    seen: Recorder,
    reference: tuple[Tensor, Head] | None,
) -> dict[str, Tensor]:
    """What is wanted of ``states``, ``layers``, ``activations`` and ``kl``, see ``Scores.extras``; float32 at least.

    Args:
        states: [E, D] last hidden states.
        seen: what hooks recorded in the body.
        reference: its states [E, D'] and head, for ``kl``.
    """
    found: dict[str, Tensor] = {}
    if "states" in wants:
        found["states"] = _wide(states)
    if "layers" in wants:
        last = states if seen.layers and seen.layers[-1].shape == states.shape else seen.layers[-1]
        found["layers"] = _wide(torch.stack([*seen.layers[:-1], last], 1))
    if "activations" in wants:
        found["activations"] = torch.stack([*seen.means, _wide(states).mean(-1), mean_logit(states, head, form)], 1)
    if "kl" in wants:
        if reference is None:
            raise ValueError("a divergence from the reference needs its states and its head")
        found["kl"] = token_kl(states, head, form, *reference)
    return found


def mean_logit(states: Tensor, head: Any, form: LogitForm) -> Tensor:
    """[E] mean over the vocabulary of the logits, a chunk of rows at a time."""
    rows = chunk_rows(int(getattr(head, "out_features", 1 << 16)))
    return torch.cat([_wide(form(head(part))).mean(-1) for part in states.split(rows)])


def _wide(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))
