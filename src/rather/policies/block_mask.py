"""What may see what in a row of comparisons with shared prompts, as few and small rectangles as attention needs.

One dense mask over a comparison would have attention computed between responses, which is nothing but cost: with many
or long responses most of all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

Sizes = tuple[tuple[int, ...], ...]
"""Lengths of prompt and responses of each comparison, in row order."""

MaskFunction = Callable[..., Any]
"""(batch, head, query position, key position) -> whether the query sees the key; broadcasts, as transformers has it."""

_GROUP = 64
"""Responses after the first are answered together up to this many tokens."""


@dataclass
class Piece:
    """Queries that are answered together, and the keys they may see.

    Attributes:
        allowed: [queries, keys] boolean; row sees column where true. ``None`` where that is plain causality: query i
            sees the first i keys and its own.
        branch: whether the keys are the comparison's prompt and then the queries' own, rather than just these.
    """

    queries: int
    allowed: Tensor | None
    branch: bool
    _additive: dict[torch.dtype, Tensor] = field(default_factory=dict)

    def additive(self, dtype: torch.dtype) -> Tensor | None:
        """What is seen as 0 and -inf; made once for all layers."""
        if self.allowed is None:
            return None
        if dtype not in self._additive:
            zeros = torch.zeros(self.allowed.shape, dtype=dtype, device=self.allowed.device)
            self._additive[dtype] = zeros.masked_fill_(~self.allowed, -torch.inf)
        return self._additive[dtype]


@dataclass(frozen=True)
class BlockMask:
    """What may see what. Passes through a model's layers untouched, as an attention mask.

    The prompt and the first response of a comparison are a plain sequence and make one piece; its other responses
    follow in pieces of one or, while they are short, several.

    Attributes:
        sizes: comparisons of the row.
        function: of the layers that it is for.
    """

    sizes: Sizes
    function: MaskFunction
    device: torch.device

    @cached_property
    def pieces(self) -> tuple[tuple[Piece, ...], ...]:
        """Of each comparison; their queries are the row. Made once for all layers."""
        return tuple(_pieces(self.function, lengths, self.device) for lengths in self.sizes)

    @cached_property
    def row(self) -> Any:
        """torch's own mask for FlexAttention, of the whole row; made once for all layers."""
        from torch.nn.attention.flex_attention import create_block_mask

        parts = torch.tensor([length for comparison in self.sizes for length in comparison])

        def spread(numbers: list[int]) -> Tensor:
            return torch.tensor(numbers).repeat_interleave(parts).to(self.device)

        comparison = spread([row for row, each in enumerate(self.sizes) for _ in each])
        branch = spread([part for each in self.sizes for part in range(len(each))])
        spans = [torch.arange(n) + (each[0] if part else 0) for each in self.sizes for part, n in enumerate(each)]
        logical = torch.cat(spans).to(self.device)

        def seen(batch: Tensor, head: Tensor, q: Tensor, kv: Tensor) -> Tensor:
            own = (branch[kv] == 0) | (branch[kv] == branch[q])
            return (comparison[q] == comparison[kv]) & own & self.function(batch, head, logical[q], logical[kv])

        total = int(parts.sum())
        return create_block_mask(seen, None, None, total, total, device=str(self.device))


def _pieces(function: MaskFunction, lengths: tuple[int, ...], device: torch.device) -> tuple[Piece, ...]:
    prompt, first, *others = lengths
    trunk = _allowed(function, 0, (prompt + first,), device)
    causal = torch.equal(trunk, torch.ones_like(trunk).tril())
    pieces = [Piece(prompt + first, None if causal else trunk, branch=False)]
    for group in _groups(others):
        pieces.append(Piece(sum(group), _allowed(function, prompt, (prompt, *group), device)[prompt:], branch=True))
    return tuple(pieces)


def _groups(lengths: Sequence[int]) -> list[tuple[int, ...]]:
    """Neighbours that together are short: they are masked from each other, which costs less than calls of their
    own."""
    groups: list[tuple[int, ...]] = []
    for length in lengths:
        if groups and sum(groups[-1]) + length <= _GROUP:
            groups[-1] += (length,)
        else:
            groups.append((length,))
    return groups


def _allowed(function: MaskFunction, start: int, lengths: tuple[int, ...], device: torch.device) -> Tensor:
    """[n, n] what may see what among a prompt (of ``lengths[0]``) and responses, by logical position.

    Args:
        start: logical position of each response's first token.
    """
    prompt, *responses = lengths
    spans = [torch.arange(prompt), *(torch.arange(start, start + size) for size in responses)]
    logical = torch.cat(spans).to(device)
    branch = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths)).to(device)
    zero = torch.zeros(1, 1, 1, 1, dtype=torch.long, device=device)
    q, kv = logical[None, None, :, None], logical[None, None, None, :]
    size = len(logical)
    allowed = torch.as_tensor(function(zero, zero, q, kv), device=device).expand(1, 1, size, size)[0, 0]
    return allowed & ((branch == 0)[None, :] | (branch[:, None] == branch[None, :]))
