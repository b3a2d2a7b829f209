"""Any objective with further terms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from rather.objectives.base import Objective
from rather.objectives.outcome import Outcome
from rather.objectives.scores import Layout, Scores


class Extended(Objective):
    """The terms of ``base``, and one of each of ``terms``: ``(policy, reference, layout) -> Term``.

    Rewards, margins, losses of edges and whatever moves are those of ``base``.
    """

    def __init__(self, base: Objective, terms: Sequence[nn.Module]) -> None:
        super().__init__()
        self.base, self.terms = base, nn.ModuleList(terms)
        self.needs_reference, self.couples_batch = base.needs_reference, base.couples_batch
        self.needs_lengths = base.needs_lengths or any(getattr(term, "needs_lengths", False) for term in terms)
        self.weigh, self.noising = base.weigh, base.noising
        self.rate_factor, self.weight_decay = base.rate_factor, base.weight_decay

    def forward(self, policy: Scores, reference: Scores | None, layout: Layout) -> Outcome:
        outcome = self.base(policy, reference, layout)
        return replace(outcome, terms=(*outcome.terms, *(term(policy, reference, layout) for term in self.terms)))

    def prepare(self, facts: Mapping[str, Any]) -> None:
        self.base.prepare(facts)
        for term in self.terms:
            if callable(make := getattr(term, "prepare", None)):
                make(facts)

    def advance(self, observations: Mapping[str, Tensor]) -> None:
        self.base.advance(observations)
