"""Lengths in tokens, and what a length limit would cut off."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from rather.data.fields import text_of
from rather.data.types import Comparison
from rather.data.validate import percentiles


@dataclass
class TokenLengths:
    """Token counts of prompts and responses, without the few tokens that a chat template adds.

    Attributes:
        over: comparisons whose prompt and longest response together exceed ``max_length``.
        cut: tokens beyond it, counting the prompt once with the longest response.
        no_room: of those, comparisons whose longest response alone fills it, so that nothing of the prompt is left.
        first: places of the first few of ``over``.
    """

    max_length: int | None = None
    rows: int = 0
    over: int = 0
    cut: int = 0
    no_room: int = 0
    prompt: array[int] = field(default_factory=lambda: array("q"))
    response: array[int] = field(default_factory=lambda: array("q"))
    total: array[int] = field(default_factory=lambda: array("q"))
    first: list[str] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """Plain values for ``--json``."""
        found: dict[str, Any] = {
            name: percentiles(values)
            for name, values in (("prompt", self.prompt), ("response", self.response), ("total", self.total))
            if values
        }
        if self.max_length is not None:
            cut = {"rows": self.over, "share": self.over / max(self.rows, 1), "tokens_cut": self.cut}
            found |= {
                "max_length": self.max_length,
                "over_long": {**cut, "no_room": self.no_room, "first": self.first},
            }
        return found


def measure(
    comparisons: Iterable[Comparison], count_tokens: Callable[[str], int], max_length: int | None = None
) -> TokenLengths:
    """Count tokens of every text; rows of images or numbers count their text only."""
    found = TokenLengths(max_length)
    for comparison in comparisons:
        prompt = count_tokens(text_of(comparison.prompt))
        responses = [0 if isinstance(r, bytes) else count_tokens(text_of(r)) for r in comparison.responses]
        longest = max(responses, default=0)
        found.rows += 1
        found.prompt.append(prompt)
        found.response.extend(responses)
        found.total.append(prompt + longest)
        if max_length is not None and prompt + longest > max_length:
            found.over += 1
            found.cut += prompt + longest - max_length
            found.no_room += longest >= max_length
            if len(found.first) < 3:
                found.first.append(str(comparison.source or comparison.id))
    return found
