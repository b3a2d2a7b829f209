"""One FlexAttention call for a row gives what the pieces give (values, uncompiled: a processor has no backward of it)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers.masking_utils import causal_mask_function, sliding_window_causal_mask_function

from rather.policies import flex, shared
from rather.policies.block_mask import BlockMask

SIZES = ((7, 3, 1, 5), (1, 2, 4), (20, 70))


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    from torch.nn.attention.flex_attention import flex_attention

    calls: list[int] = []

    def kernel(*args: Any, **kwargs: Any) -> torch.Tensor:
        calls.append(1)
        return flex_attention(*args, **kwargs)

    monkeypatch.setattr(flex, "_state", {"kernel": kernel, "failed": False, "checked": True})
    return calls


@torch.no_grad()
def attended(mask: BlockMask, seed: int, softcap: float | None) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    total = sum(map(sum, mask.sizes))
    q, k, v = (torch.randn(1, heads, total, 16, generator=random) for heads in (4, 2, 2))
    return shared.attention(None, q, k, v, mask, scaling=0.3, softcap=softcap)[0]


@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("function", [causal_mask_function, sliding_window_causal_mask_function(6)])
def test_one_call_is_the_pieces(
    function: Any, softcap: float | None, uncompiled: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    mask = BlockMask(SIZES, function, torch.device("cpu"))
    pieces = attended(mask, 0, softcap)
    assert not uncompiled
    monkeypatch.setattr(flex, "usable", lambda query: True)
    whole = attended(mask, 0, softcap)
    assert len(uncompiled) == 1
    assert not flex._state["failed"]
    torch.testing.assert_close(whole, pieces, rtol=1e-5, atol=1e-5)


def test_a_kernel_that_fails_is_left_after_one_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **kwargs: Any) -> torch.Tensor:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(flex, "_state", {"kernel": broken, "failed": False, "checked": False})
    monkeypatch.setattr(flex, "usable", lambda query: not flex._state["failed"])
    mask = BlockMask(SIZES, causal_mask_function, torch.device("cpu"))
    with pytest.warns(UserWarning, match="no compiler"):
        first = attended(mask, 1, None)
    again = attended(mask, 1, None)
    assert torch.equal(first, again)


def test_a_processor_goes_piece_by_piece() -> None:
    assert not flex.usable(torch.zeros(1, 1, 4, 16))


@pytest.mark.parametrize("wrong", [None, "values", "gradient"])
def test_the_first_call_is_checked(wrong: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the pieces, values and gradients; the kernel is a dense one, right or spoilt."""
    mask = BlockMask(SIZES, causal_mask_function, torch.device("cpu"))
    calls: list[int] = []

    def dense(
        q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, block_mask: Any, scale: float, **_: Any
    ) -> torch.Tensor:
        calls.append(1)
        at = torch.arange(q.shape[2])
        zero = torch.zeros((), dtype=torch.long)
        seen = torch.stack([torch.stack([block_mask.mask_mod(zero, zero, i, j) for j in at]) for i in at])
        out = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=scale, enable_gqa=True)
        if wrong == "values":
            return out * 1.1
        return out.detach() + 0.5 * (out - out.detach()) if wrong == "gradient" else out

    monkeypatch.setattr(flex, "_state", {"kernel": dense, "failed": False, "checked": False})
    monkeypatch.setattr(flex, "usable", lambda query: not flex._state["failed"])
    if wrong is None:
        attended(mask, 0, None)
        attended(mask, 1, None)
        assert len(calls) == 3  # one of them to check
    else:
        with pytest.warns(UserWarning, match="is off by"):
            attended(mask, 0, None)
        attended(mask, 1, None)
        assert len(calls) == 1
