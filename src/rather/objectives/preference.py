"""The composition from which nearly every method is made.

element score    the policy's, or the reference's plus a value          element values
response score   s = transform(reduce(elements))                        transform, reduce, element weights
log-ratio        rho = s(policy) - s(reference)                         reference or none
pair             win = beta f rho_w, lose = beta f rho_l, offset        matching, scales (f, of each edge), offset
selection        which edges take part, and factors on their beta       selection
margin           z = win - lose - offset, pooled over a list if asked   pool
loss             labels(link)(pair)                                     link, label model
term             weight * loss, averaged over edges (lists when pooled)
total            coefficient * mean + anchors
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rather.objectives import parts
from rather.objectives.base import Objective
from rather.objectives.element_values import Valued
from rather.objectives.labels import Hard
from rather.objectives.links import Link, Pair
from rather.objectives.listwise import mean_by_list
from rather.objectives.margins import Matched, Offset
from rather.objectives.outcome import Outcome, Term, undesirable
from rather.objectives.scores import Layout, Reduction, Scores, reduce_elements, segment_sum
from rather.objectives.tables import edge_keys

ElementWeights = Callable[[Scores, Scores | None, Layout], Tensor]
"""(policy, reference, layout) -> [E] weights of the elements."""

EdgeWeights = Callable[[Pair, Layout], Tensor]
"""(pair, layout) -> [K] factors on the edges' losses; must not carry gradient."""


class Preference(Objective):
    """A preference objective made of parts; see the module docstring for the formula.

    Any part that is a module may move (``parts.MovingPart``).

    Args:
        beta: scale of the log-ratio (1 / temperature of the implicit reward).
        link: loss of an edge from its scaled rewards.
        reduce: from elements to a response score.
        needs_reference: subtract the reference's score; otherwise the score itself is the reward.
        transform: applied to response scores [R] of policy and reference (e.g. log-odds).
        element_values: from (policy, reference, layout) to scores that take the place of the policy's
            (``element_values.Valued``); weights, anchors and logged log-probabilities keep to the policy's own.
        element_weights: weights [E] inside the reduction, the same for policy and reference.
        matching: which ends are compared.
        scales: factors on each edge's beta, from the layout to [K] without gradient, multiplied with each other; one may
            be negative, where the data believes in the other order. Rewards are logged without them.
        offset: the margin that is asked for.
        selection: from the policy's reduced scores [R] and the layout to a ``parts.Selection``.
        pool: from edge margins [K] to list margins [C]; for margin links only.
        labels: label model.
        edge_weights: factors on edge losses, multiplied with each other and with the data's weight.
        coefficient: factor on the preference term.
        anchors: further terms, ``(policy, reference, layout) -> Term``.
        noising: how a denoising policy noises responses, see ``Objective.noising``.
    """

    def __init__(
        self,
        *,
        beta: float,
        link: Link,
        reduce: Reduction = "sum",
        needs_reference: bool = True,
        transform: Callable[[Tensor], Tensor] | None = None,
        element_values: nn.Module | None = None,
        element_weights: ElementWeights | None = None,
        matching: Matched | None = None,
        scales: Sequence[nn.Module] = (),
        offset: Offset | None = None,
        selection: nn.Module | None = None,
        pool: nn.Module | None = None,
        labels: Hard | None = None,
        edge_weights: Sequence[EdgeWeights] = (),
        coefficient: float = 1.0,
        anchors: Sequence[nn.Module] = (),
        noising: Any = None,
    ) -> None:
        super().__init__()
        self.beta = beta
        self.link = link
        self.reduce: Reduction = reduce
        self.needs_reference = needs_reference
        self.transform = transform
        self.element_values = element_values
        self.element_weights = element_weights
        self.matching = matching or Matched()
        self.couples_batch = self.matching.couples_batch
        self.scales = nn.ModuleList(scales)
        self.offset = offset or Offset()
        self.selection = selection
        self.pool = pool
        self.labels = labels or Hard()
        self.edge_weights = tuple(edge_weights)
        for number, part in enumerate(self.edge_weights):
            if isinstance(part, nn.Module):
                self.add_module(f"edge_weight_{number}", part)
        self.coefficient = coefficient
        self.anchors = nn.ModuleList(anchors)
        self.noising = noising
        self.needs_lengths = reduce == "mean" or any(getattr(anchor, "needs_lengths", False) for anchor in anchors)

    def response_scores(self, scores: Scores, layout: Layout, weights: Tensor | None) -> tuple[Tensor, Tensor]:
        """[R] reduced scores, and the same transformed."""
        reduced = reduce_elements(scores, layout.lengths, self.reduce, weights)
        return reduced, self.transform(reduced) if self.transform else reduced

    def forward(self, policy: Scores, reference: Scores | None, layout: Layout) -> Outcome:
        weights = self.element_weights(policy, reference, layout) if self.element_weights else None
        valued = self.element_values(policy, reference, layout) if self.element_values else Valued(policy)
        reduced, of_policy = self.response_scores(valued.policy, layout, weights)
        of_reference, in_u = torch.zeros_like(of_policy), None
        if self.needs_reference:
            if reference is None:
                raise ValueError("this objective compares with a reference; pass its scores")
            reduced_reference, transformed = self.response_scores(reference.detach(), layout, weights)
            of_reference = transformed.to(of_policy)
            in_u = undesirable(reduced, reduced_reference, layout)
        win, lose = self.matching(of_policy, of_reference, layout)
        offset = self.offset(of_policy.detach(), of_reference.detach(), layout)
        chosen = self.selection(reduced.detach(), layout) if self.selection is not None else None
        kept = None if chosen is None else chosen.kept
        beta = self.beta if chosen is None else self.beta * chosen.factor.to(win)
        for scale in self.scales:
            beta = beta * scale(layout).to(win)
        pair = Pair(beta * win, beta * lose, offset)
        probability, edge_weight, unit = layout.probability, layout.weight.to(win), "edges"
        for part in self.edge_weights:
            edge_weight = edge_weight * part(pair, layout)
        judged = pair
        if self.pool is not None:
            margin = self.pool(pair.margin, layout, kept)
            judged = Pair(margin, torch.zeros_like(margin), torch.zeros_like(margin))
            probability, edge_weight = (mean_by_list(x, layout, kept) for x in (probability, edge_weight))
            unit = "lists"
        elif kept is not None:
            edge_weight = edge_weight * kept
        key = edge_keys(layout) if self.pool is None else layout.key
        per_edge = self.labels(self.link, judged, probability, key)
        terms = [Term("preference", per_edge * edge_weight, unit, self.coefficient)]
        terms += [*valued.terms, *(anchor(policy, reference, layout) for anchor in self.anchors)]
        rewards = self.beta * (of_policy - of_reference).detach()
        detached = Pair(*(values.detach() for values in judged))
        seen = parts.Seen(of_policy.detach(), of_reference.detach(), layout, detached, key, chosen)
        return Outcome(
            terms=tuple(terms),
            rewards=rewards,
            margins=rewards[layout.winner] - rewards[layout.loser],
            per_edge=per_edge,
            logps=segment_sum(policy.elements.detach(), policy.response, layout.responses),
            observations=parts.observe(self, seen),
            undesirable=in_u,
            metrics={**valued.metrics, **parts.report(self, seen)},
        )

    def advance(self, observations: Mapping[str, Tensor]) -> None:
        parts.advance(self, observations)
