"""Reasons for the world's preferences, from the truth: which rule the rejected answer broke."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rather.data.rationales import First, names
from rather.worlds.instructions.checkers.registry import checker


def rationale(row: Mapping[str, Any], first: First) -> str:
    """A text that names each rule that the chosen answer of a pair obeys and the rejected one breaks.

    Args:
        row: of ``load_pairs``.
        first: which answer is Answer A.
    """
    better, worse = names(first)
    obeyed = set(row["chosen_passes"]) - set(row["rejected_passes"])
    rules = [checker(name).describe(args) for name, args in row["constraints"] if name in obeyed]
    return f"{better} is better. The question says: {' '.join(rules)} {better} does so, {worse} does not."
