"""Rectangles of attention against the rule they stand for."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rather.policies.block_mask import BlockMask, Sizes

Rule = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]

RULES: dict[str, Rule] = {
    "causal": lambda b, h, q, kv: kv <= q,
    "sliding": lambda b, h, q, kv: (kv <= q) & (kv > q - 7),
    "chunked": lambda b, h, q, kv: (kv <= q) & (kv // 10 == q // 10),
}
CPU = torch.device("cpu")


def dense(sizes: Sizes, rule: Rule) -> Tensor:
    """[T, T] by the definition: the same comparison, the prompt or the same response, the layer's rule."""
    rows = [
        (comparison, response, position)
        for comparison, (prompt, *responses) in enumerate(sizes)
        for response, (start, length) in enumerate([(0, prompt), *((prompt, length) for length in responses)])
        for position in range(start, start + length)
    ]
    comparison, response, position = torch.tensor(rows).T
    same = (comparison[:, None] == comparison) & ((response == 0) | (response[:, None] == response))
    zero = torch.zeros(1, 1, dtype=torch.long)
    return same & rule(zero, zero, position[:, None], position[None, :])


def put_together(mask: BlockMask) -> tuple[Tensor, int]:
    """[T, T] what the rectangles let through, and the number of their cells."""
    length = sum(map(sum, mask.sizes))
    found, cells, offset = torch.zeros(length, length, dtype=torch.bool), 0, 0
    for (prompt, *_), pieces in zip(mask.sizes, mask.pieces, strict=True):
        start = offset
        for piece in pieces:
            own = torch.arange(offset, offset + piece.queries)
            keys = torch.cat([torch.arange(start, start + prompt), own]) if piece.branch else own
            allowed = piece.allowed
            if allowed is None:
                allowed = torch.ones(len(own), len(keys), dtype=torch.bool).tril()
            assert allowed.shape == (len(own), len(keys))
            found[own[:, None], keys[None, :]] = allowed
            cells += allowed.numel()
            offset += piece.queries
    assert offset == length
    return found, cells


SIZES = st.lists(
    st.tuples(st.integers(1, 12), st.lists(st.integers(1, 25), min_size=1, max_size=8)).map(lambda s: (s[0], *s[1])),
    min_size=1,
    max_size=2,
).map(tuple)


@settings(max_examples=25)
@given(sizes=SIZES, name=st.sampled_from(list(RULES)))
def test_rectangles_are_the_rule(sizes: Sizes, name: str) -> None:
    assert torch.equal(put_together(BlockMask(sizes, RULES[name], CPU))[0], dense(sizes, RULES[name]))


@pytest.mark.parametrize("sizes", [((300, *[12] * 16),), ((100, *[200] * 8),), ((120, 40, 49), (97, 30, 60))])
def test_few_cells_are_computed_in_vain(sizes: Sizes) -> None:
    mask = BlockMask(sizes, RULES["causal"], CPU)
    found, cells = put_together(mask)
    assert cells < 2.1 * int(found.sum())  # half of a causal square is empty, though a kernel may leave it out
    assert all(pieces[0].allowed is None for pieces in mask.pieces)  # as here, where no mask is needed
    assert sum(map(len, mask.pieces)) <= sum(len(s) - 1 for s in sizes)


def test_additive_form_is_made_once_for_each_type() -> None:
    piece = BlockMask(((3, 2, 4),), RULES["causal"], CPU).pieces[0][1]
    first = piece.additive(torch.float32)
    assert first is not None and piece.allowed is not None
    assert piece.additive(torch.float32) is first
    assert torch.equal(first == 0, piece.allowed)
    assert bool((first[~piece.allowed] == -torch.inf).all())
    half = piece.additive(torch.bfloat16)
    assert half is not None
    assert half.dtype == torch.bfloat16
