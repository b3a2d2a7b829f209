"""What happened while comparisons were encoded: how many were used, cut, mended, left out, and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

_NAMED = 100  # dropped rows that are named; the rest are counted


@dataclass
class EncodingReport:
    """Counts of one ``encode`` call.

    Attributes:
        comparisons: how many came in.
        encoded: how many came out.
        dropped: reason -> number of comparisons left out.
        dropped_rows: ``(where, reason)`` of the first hundred of them.
        truncated: comparisons of which something was cut off.
        tokens_cut: tokens that were cut off, over prompts and responses.
        repairs: kind -> number of responses whose boundary to the prompt had to be mended.
        ends_added: responses that got an end token, since the text had none.
        prompt_lengths, response_lengths: tokens, after truncation.
    """

    comparisons: int = 0
    encoded: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    dropped_rows: list[tuple[str, str]] = field(default_factory=list)
    truncated: int = 0
    tokens_cut: int = 0
    repairs: Counter[str] = field(default_factory=Counter)
    ends_added: int = 0
    prompt_lengths: list[int] = field(default_factory=list)
    response_lengths: list[int] = field(default_factory=list)

    def drop(self, where: str, reason: str) -> None:
        self.dropped[reason] += 1
        if len(self.dropped_rows) < _NAMED:
            self.dropped_rows.append((where, reason))

    def summary(self) -> dict[str, Any]:
        """Plain values for a run's record."""
        return {
            "comparisons": self.comparisons,
            "encoded": self.encoded,
            "dropped": dict(self.dropped),
            "dropped_rows": [f"{where}: {reason}" for where, reason in self.dropped_rows],
            "truncated": self.truncated,
            "tokens_cut": self.tokens_cut,
            "repairs": dict(self.repairs),
            "ends_added": self.ends_added,
            "prompt_tokens": percentiles(self.prompt_lengths),
            "response_tokens": percentiles(self.response_lengths),
        }

    def lines(self) -> list[str]:
        """What a person should read: nothing about what did not happen."""
        lines = [f"{self.encoded} of {self.comparisons} comparisons encoded"]
        lines += [f"{count} left out: {reason}" for reason, count in self.dropped.most_common()]
        if self.truncated:
            lines.append(f"{self.truncated} truncated ({self.tokens_cut} tokens cut)")
        lines += [f"{count} responses: {kind}" for kind, count in self.repairs.most_common()]
        return lines


def percentiles(lengths: list[int]) -> dict[str, float]:
    """Mean, median, 95th percentile, maximum and sum; empty for no lengths."""
    if not lengths:
        return {}
    values = np.asarray(lengths)
    return {
        "mean": round(float(values.mean()), 2),
        "median": float(np.median(values)),
        "p95": float(np.percentile(values, 95)),
        "max": int(values.max()),
        "sum": int(values.sum()),
    }
