"""Which characters of a response each of its tokens stands for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from rather.data.types import Comparison
from rather.errors import UserError
from rather.objectives.token_weights import Pieces, Weigh
from rather.policies.rendering import Unusable
from rather.policies.tokenization import Tokens


def pieces_of(tokenizer: Any, ids: Sequence[int] | np.ndarray, response: str | None) -> Pieces:
    """A response's tokens as pieces of its text, found by decoding them one after the other.

    Tokens that are parts of one character all stand for it. So it does not matter how the ids came about (a template,
    a repaired boundary, truncation).

    Raises:
        UserError: the tokenizer has no backend of the tokenizers library, which decodes step by step.
    """
    from tokenizers.decoders import DecodeStream

    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        fix = "use a model with a fast tokenizer"
        raise UserError("the tokenizer cannot tell which characters a token stands for", fix=fix)
    stream = DecodeStream(skip_special_tokens=False)
    starts, ends = (np.zeros(len(ids), np.int64) for _ in range(2))
    decoded, first = "", 0
    for number, token in enumerate(ids):
        text = stream.step(backend, int(token))
        if text is None:
            continue
        starts[first : number + 1], ends[first : number + 1] = len(decoded), len(decoded) + len(text)
        decoded, first = decoded + text, number + 1
    starts[first:] = ends[first:] = len(decoded)
    shift = decoded.find(response) if response is not None else -1
    if response is None or shift < 0:
        return Pieces(decoded, False, np.asarray(ids), starts, ends)
    return Pieces(response, True, np.asarray(ids), starts - shift, ends - shift)


def weighed(tokenizer: Any, comparison: Comparison, tokens: Tokens, weigh: Weigh) -> Tokens:
    """The tokens with weights: ``weigh`` for the compared responses, 1 for auxiliary ones behind them.

    Raises:
        Unusable: the rule refuses the comparison.
    """
    compared = len(comparison.responses)
    pieces = [
        pieces_of(tokenizer, ids, _text(response))
        for ids, response in zip(tokens.responses[:compared], comparison.responses, strict=True)
    ]
    try:
        weights = weigh(comparison, pieces)
    except ValueError as reason:
        raise Unusable(str(reason)) from None
    further = [np.ones(len(ids), np.float32) for ids in tokens.responses[compared:]]
    return replace(tokens, weights=(*weights, *further))


def _text(response: Any) -> str | None:
    """The text of a response that is one text."""
    if isinstance(response, str):
        return response
    content = response[0].get("content") if len(response) == 1 else None
    return content if isinstance(content, str) else None
