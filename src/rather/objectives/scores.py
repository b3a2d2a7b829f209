"""Ragged scores, and the layout that says what they belong to.

One flat vector of element scores (tokens, patches), a response index per element, a prompt index per response, and
edges between responses. There is no padding: everything downstream reduces by segment, so packing, prompt sharing and
lists of any size need no special case.

Legend of the axes: E elements, R responses, K edges, C comparisons (examples).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Literal

import torch
from torch import Tensor

from rather.data.types import Comparison

Reduction = Literal["sum", "mean"]

UNITS = ("edges", "lists", "responses", "marked", "elements", "target_elements", "targets")


def stable_key(identifier: str) -> int:
    """A 63-bit integer for an example id, the same in every process and on every machine."""
    return int.from_bytes(hashlib.blake2b(identifier.encode(), digest_size=8).digest(), "big") >> 1


@dataclass(frozen=True)
class Layout:
    """Which response belongs to which prompt, and which was preferred to which.

    Attributes:
        lengths: [R] number of elements of each response; what a mean over a response divides by.
        prompt: [R] index of the comparison a response belongs to.
        winner, loser: [K] response indices of each edge.
        edge_list: [K] index of the comparison an edge belongs to.
        weight: [K] factor on the edge's loss (1 when the data has none).
        probability: [K] probability that the order is right; NaN where unknown.
        margin: [K] how much better the winner is; NaN where unknown.
        desirable: [R] +1 desirable, -1 undesirable, 0 unmarked (unpaired feedback).
        key: [C] stable integer key of each comparison (``stable_key`` of its id).
    """

    lengths: Tensor
    prompt: Tensor
    winner: Tensor
    loser: Tensor
    edge_list: Tensor
    weight: Tensor
    probability: Tensor
    margin: Tensor
    desirable: Tensor
    key: Tensor

    @property
    def responses(self) -> int:
        return self.lengths.numel()

    @property
    def edges(self) -> int:
        return self.winner.numel()

    @property
    def lists(self) -> int:
        return self.key.numel()

    def targets(self) -> Tensor:
        """[T] responses whose likelihood an SFT term raises: winners of an edge, desirable ones, lone ones."""
        mask = self.desirable > 0
        mask[self.winner] = True
        involved = mask.clone()
        involved[self.loser] = True
        alone = ~involved & (self.desirable == 0)
        return torch.nonzero(mask | alone).flatten()

    def counts(self) -> dict[str, float]:
        """How many of each unit the layout holds; summed over a whole optimizer step these are the denominators."""
        targets = self.targets()
        return {
            "edges": float(self.edges),
            "lists": float(self.edge_list.unique().numel()),
            "responses": float(self.responses),
            "marked": float((self.desirable != 0).sum()),
            "elements": float(self.lengths.sum()),
            "target_elements": float(self.lengths[targets].sum()),
            "targets": float(targets.numel()),
        }

    def to(self, device: torch.device | str) -> Layout:
        return Layout(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})

    @staticmethod
    def of(comparisons: Sequence[Comparison], lengths: Iterable[int]) -> Layout:
        """The layout of comparisons whose responses, in order, have these numbers of elements."""
        prompt: list[int] = []
        winner: list[int] = []
        loser: list[int] = []
        edge_list: list[int] = []
        values: list[tuple[float, float, float]] = []
        desirable: list[int] = []
        nan = float("nan")
        for index, comparison in enumerate(comparisons):
            start = len(prompt)
            prompt += [index] * len(comparison.responses)
            marks = comparison.desirable or (None,) * len(comparison.responses)
            desirable += [0 if mark is None else (1 if mark else -1) for mark in marks]
            for edge in comparison.edges:
                winner.append(start + edge.winner)
                loser.append(start + edge.loser)
                edge_list.append(index)
                probability = nan if edge.probability is None else edge.probability
                margin = nan if edge.margin is None else edge.margin
                values.append((edge.weight, probability, margin))
        columns = torch.tensor(values, dtype=torch.float32).reshape(-1, 3).unbind(1)
        return Layout(
            lengths=torch.tensor(list(lengths), dtype=torch.long),
            prompt=torch.tensor(prompt, dtype=torch.long),
            winner=torch.tensor(winner, dtype=torch.long),
            loser=torch.tensor(loser, dtype=torch.long),
            edge_list=torch.tensor(edge_list, dtype=torch.long),
            weight=columns[0],
            probability=columns[1],
            margin=columns[2],
            desirable=torch.tensor(desirable, dtype=torch.long),
            key=torch.tensor([stable_key(c.id) for c in comparisons], dtype=torch.long),
        )

    @staticmethod
    def of_pairs(lengths_chosen: Tensor, lengths_rejected: Tensor) -> Layout:
        """B pairs with the responses stacked as ``[chosen; rejected]``, keyed by position."""
        pairs = lengths_chosen.numel()
        index = torch.arange(pairs, device=lengths_chosen.device)
        nan = torch.full((pairs,), float("nan"), device=index.device)
        return Layout(
            lengths=torch.cat([lengths_chosen, lengths_rejected]),
            prompt=torch.cat([index, index]),
            winner=index,
            loser=index + pairs,
            edge_list=index,
            weight=torch.ones(pairs, device=index.device),
            probability=nan,
            margin=nan.clone(),
            desirable=torch.zeros(2 * pairs, dtype=torch.long, device=index.device),
            key=index,
        )


@dataclass(frozen=True)
class Scores:
    """What a policy says about the responses of a batch.

    Attributes:
        elements: [E] score of each element: log p(token), or minus half the squared denoising error of a latent.
            float32 at least; carries the gradient.
        response: [E] response index of each element.
        extras: further per-element values aligned with ``elements`` (token ids, entropy, weights).
    """

    elements: Tensor
    response: Tensor
    extras: dict[str, Tensor] = field(default_factory=dict)

    def detach(self) -> Scores:
        return replace(self, elements=self.elements.detach())


def segment_sum(values: Tensor, index: Tensor, size: int) -> Tensor:
    """[size] sums of ``values`` [N] over equal ``index`` [N], in float32 at least."""
    values = values if values.dtype in (torch.float32, torch.float64) else values.float()
    return values.new_zeros(size).index_add(0, index, values)


def segment_logsumexp(values: Tensor, index: Tensor, size: int) -> Tensor:
    """[size] log of the sum of exponentials by segment; -inf for an empty segment."""
    top = values.new_full((size,), -torch.inf).scatter_reduce(0, index, values.detach(), "amax")
    shift = torch.where(torch.isfinite(top), top, torch.zeros_like(top))
    return segment_sum((values - shift[index]).exp(), index, size).log() + shift


def reduce_elements(scores: Scores, lengths: Tensor, how: Reduction, weights: Tensor | None = None) -> Tensor:
    """[R] response scores.

    ``sum`` is the (weighted) sum over a response's elements. ``mean`` divides by the number of elements, or, with
    element weights [E], by the sum of the weights. An empty response scores 0.
    """
    size = lengths.numel()
    elements = scores.elements if weights is None else scores.elements * weights
    total = segment_sum(elements, scores.response, size)
    if how == "sum":
        return total
    norm = lengths.to(total) if weights is None else segment_sum(weights, scores.response, size)
    return total / torch.where(norm == 0, torch.ones_like(norm), norm)
