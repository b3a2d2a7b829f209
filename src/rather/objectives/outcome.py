"""What an objective returns: terms with their units, and what is worth looking at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from rather.objectives.scores import Layout


@dataclass(frozen=True)
class Term:
    """One additive part of a loss, not yet averaged.

    Attributes:
        values: [N] contributions; their sum is divided by the number of ``unit`` in the whole optimizer step.
        unit: one of ``scores.UNITS``: what the term is a mean over.
        coefficient: factor on the mean.
        metrics: [N] numbers by name whose means are logged, as ``<name of the term>/<name>``; detached.
    """

    name: str
    values: Tensor
    unit: str
    coefficient: float = 1.0
    metrics: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """Terms of the loss, and detached quantities for metrics.

    Attributes:
        terms: the loss is the sum over terms of ``coefficient * values.sum() / count[unit]``.
        rewards: [R] implicit rewards, beta times the log-ratio (reference-free: beta times the score).
        margins: [K] scaled margins of the edges, before any offset.
        per_edge: [K] loss of each edge (of each list, [C], for a pooled objective), before weights; carries gradient.
            Empty where a batch has marks and no edges.
        logps: [R] response scores of the policy, summed over elements.
        observations: [N] tensors to be gathered over the whole optimizer step and given to ``Objective.advance``.
        undesirable: [K] see ``undesirable``; ``None`` without a reference.
        metrics: [N] numbers by name whose means are logged; detached. An objective names the same ones every time.
    """

    terms: tuple[Term, ...]
    rewards: Tensor
    margins: Tensor
    per_edge: Tensor
    logps: Tensor
    observations: Mapping[str, Tensor] = field(default_factory=dict)
    undesirable: Tensor | None = None
    metrics: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def logged(self) -> dict[str, Tensor]:
        """The objective's own metrics and those of its terms, sorted by name."""
        of_terms = {f"{term.name}/{name}": values for term in self.terms for name, values in term.metrics.items()}
        return dict(sorted({**self.metrics, **of_terms}.items()))

    def loss(self, counts: Mapping[str, float]) -> Tensor:
        """The scalar loss of these terms under the denominators ``counts`` (unit -> number in the optimizer step)."""
        total = torch.zeros((), device=self.logps.device, dtype=self.logps.dtype)
        for term in self.terms:
            total = total + term.coefficient * term.values.sum() / max(counts[term.unit], 1.0)
        return total


def undesirable(policy: Tensor, reference: Tensor, layout: Layout) -> Tensor:
    """[K] edges that the policy orders wrongly, yet less so than the reference (set U of arXiv 2605.20834).

    From response scores [R] of both: reference margin < policy margin < 0. The implicit reward calls them right.
    """
    of_policy, of_reference = (
        (scores[layout.winner] - scores[layout.loser]).detach() for scores in (policy, reference.to(policy))
    )
    return (of_reference < of_policy) & (of_policy < 0)
