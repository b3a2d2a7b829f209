"""Ragged scores, and the layout that says what they belong to.

One flat vector of element scores (tokens, patches), a response index per element, a prompt index per response, and
edges between responses. There is no padding: everything downstream reduces by segment, so packing, prompt sharing and
lists of any size need no special case.

Legend of the axes: E elements, R responses, K edges, C comparisons (examples).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Literal

import torch
from torch import Tensor

from rather.data.types import ROLES, Comparison, Role

Reduction = Literal["sum", "mean"]

ROLE_ELEMENTS = tuple(f"{role}_elements" for role in ROLES)

UNITS = ("edges", "lists", "responses", "marked", "elements", "target_elements", "targets", *ROLES, *ROLE_ELEMENTS)
"""What terms are means over. A role counts its groups, with ``_elements`` the elements of its responses; the others count
what was compared, without auxiliaries."""


def stable_key(identifier: str) -> int:
    """A 63-bit integer for an example id, the same in every process and on every machine."""
    return int.from_bytes(hashlib.blake2b(identifier.encode(), digest_size=8).digest(), "big") >> 1


@dataclass(frozen=True)
class Auxiliaries:
    """Responses beside those that were compared (``rather.data.types.Auxiliary``). All [A].

    Attributes:
        response: index of the response.
        role: index into ``ROLES``.
        group: number of its group, from 0 without gaps; a group is one item of a term.
        sign: factor in the sum over a group.
        label: class, -1 where there is none.
    """

    response: Tensor
    role: Tensor
    group: Tensor
    sign: Tensor
    label: Tensor

    @staticmethod
    def of(rows: Sequence[tuple[int, int, int, float, int]]) -> Auxiliaries:
        """From rows of (response, role, group, sign, label)."""
        response, role, group, sign, label = zip(*rows, strict=True) if rows else ((), (), (), (), ())
        return Auxiliaries(
            response=torch.tensor(response, dtype=torch.long),
            role=torch.tensor(role, dtype=torch.long),
            group=torch.tensor(group, dtype=torch.long),
            sign=torch.tensor(sign, dtype=torch.float32),
            label=torch.tensor(label, dtype=torch.long),
        )

    def of_role(self, role: Role) -> Auxiliaries:
        """Those of one role, their groups numbered anew."""
        mine = self.role == ROLES.index(role)
        kept = {f.name: getattr(self, f.name)[mine] for f in fields(self)}
        return Auxiliaries(**{**kept, "group": kept["group"].unique(return_inverse=True)[1]})

    @property
    def groups(self) -> int:
        return int(self.group.max()) + 1 if self.group.numel() else 0

    def to(self, device: torch.device | str) -> Auxiliaries:
        return Auxiliaries(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})


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
        value: [R] rating of each response; NaN where unknown.
        auxiliary: responses that take part in further terms only.
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
    value: Tensor = field(default_factory=lambda: torch.empty(0))
    auxiliary: Auxiliaries = field(default_factory=lambda: Auxiliaries.of([]))

    def __post_init__(self) -> None:
        if self.value.numel() != self.lengths.numel():
            object.__setattr__(self, "value", torch.full(self.lengths.shape, torch.nan, device=self.lengths.device))

    @property
    def responses(self) -> int:
        return self.lengths.numel()

    @property
    def edges(self) -> int:
        return self.winner.numel()

    @property
    def lists(self) -> int:
        return self.key.numel()

    @property
    def compared(self) -> Tensor:
        """[R] false for auxiliary responses."""
        mask = torch.ones_like(self.lengths, dtype=torch.bool)
        mask[self.auxiliary.response] = False
        return mask

    def targets(self) -> Tensor:
        """[T] responses whose likelihood an SFT term raises: winners of an edge, desirable ones, lone ones."""
        mask = self.desirable > 0
        mask[self.winner] = True
        involved = mask.clone()
        involved[self.loser] = True
        alone = ~involved & (self.desirable == 0) & self.compared
        return torch.nonzero(mask | alone).flatten()

    def counts(self) -> dict[str, float]:
        """How many of each unit the layout holds; summed over a whole optimizer step these are the denominators."""
        targets, compared = self.targets(), self.lengths[self.compared]
        of_roles = {role: self.auxiliary.of_role(role) for role in ROLES}
        return {
            "edges": float(self.edges),
            "lists": float(self.edge_list.unique().numel()),
            "responses": float(compared.numel()),
            "marked": float((self.desirable != 0).sum()),
            "elements": float(compared.sum()),
            "target_elements": float(self.lengths[targets].sum()),
            "targets": float(targets.numel()),
            **{role: float(found.groups) for role, found in of_roles.items()},
            **{f"{role}_elements": float(self.lengths[found.response].sum()) for role, found in of_roles.items()},
        }

    def to(self, device: torch.device | str) -> Layout:
        return Layout(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})

    @staticmethod
    def of(comparisons: Sequence[Comparison], lengths: Iterable[int]) -> Layout:
        """The layout of comparisons whose responses, auxiliary ones behind the others, have these numbers of elements."""
        prompt: list[int] = []
        winner: list[int] = []
        loser: list[int] = []
        edge_list: list[int] = []
        values: list[tuple[float, float, float]] = []
        desirable: list[int] = []
        ratings: list[float] = []
        auxiliary: list[tuple[int, int, int, float, int]] = []
        groups: dict[tuple[int, int, int], int] = {}
        nan = float("nan")
        for index, comparison in enumerate(comparisons):
            start, own = len(prompt), len(comparison.responses)
            prompt += [index] * (own + len(comparison.auxiliary))
            marks = (*(comparison.desirable or (None,) * own), *[None] * len(comparison.auxiliary))
            desirable += [0 if mark is None else (1 if mark else -1) for mark in marks]
            ratings += [*(comparison.scores or [nan] * own), *[nan] * len(comparison.auxiliary)]
            for number, item in enumerate(comparison.auxiliary):
                role = ROLES.index(item.role)
                group = groups.setdefault((index, role, item.group), len(groups))
                auxiliary.append((start + own + number, role, group, item.sign, item.label))
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
            value=torch.tensor(ratings, dtype=torch.float32),
            auxiliary=Auxiliaries.of(auxiliary),
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
        extras: further values, one row for each element. ``ids`` [E]: tokens. On request (``Objective.wants``):
            ``weight`` [E]: of the token, as encoded; ``entropy`` [E]: of the predicted distribution, nats, detached;
            ``kl`` [E]: KL(reference || policy) over the whole vocabulary at the position that predicts the token,
            nats; ``states`` [E, D]: last hidden state there; ``layers`` [E, N, D]: the hidden states behind each of
            the N layers there, the last one after the final norm; ``activations`` [E, H]: mean activations there.
        head: from rows of ``states`` [n, D] to logits [n, V] of the model that scored, without gradient; there when
            ``states`` are, where a state is followed by a softmax over a vocabulary.
    """

    elements: Tensor
    response: Tensor
    extras: dict[str, Tensor] = field(default_factory=dict)
    head: Callable[[Tensor], Tensor] | None = None

    def detach(self) -> Scores:
        extras = {name: values.detach() for name, values in self.extras.items()}
        return replace(self, elements=self.elements.detach(), extras=extras)


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
