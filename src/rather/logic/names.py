"""The sixteen losses without reference over (Mw, Ml), by the names of arXiv 2412.17696.

All count the row in which only the winner is accepted for the formula, and the row in which only the loser is against
it. They differ in what they make of the rows in which both (TT) or neither (FF) are accepted.
"""

from __future__ import annotations

from functools import cache

from rather.logic.formulas import ML, MW, table
from rather.logic.structure import MARKS, Structure

OTHER_ROWS = {
    "CEUNL": ("×", "×"),
    "CE": ("✓", "×"),
    "sCE": ("✓×", "×"),
    "l3": ("-", "×"),
    "fUNL": ("×", "✓"),
    "cUNL": ("×", "-"),
    "l20": ("×", "✓×"),
    "CPO": ("✓×", "-"),
    "ORPO": ("-", "-"),
    "cCPO": ("✓", "-"),
    "unCPO": ("✓", "✓"),
    "cfUNL": ("-", "✓"),
    "qfUNL": ("-", "✓×"),
    "bCPO": ("✓", "✓×"),
    "l14": ("✓×", "✓"),
    "l5": ("✓×", "✓×"),
}
"""Name -> marks of TT and FF: for (✓), against (×), both, or not counted (-)."""


@cache
def named() -> dict[str, Structure]:
    """The sixteen structures by name."""
    return {name: _structure(tt, ff) for name, (tt, ff) in OTHER_ROWS.items()}


@cache
def named_with_reference() -> dict[str, Structure]:
    """The reference version of each, by the same name."""
    return {name: structure.with_reference() for name, structure in named().items()}


def name_of(structure: Structure) -> tuple[str, bool] | None:
    """The name of a structure, and whether it is the reference version; ``None`` when it is none of the 32."""
    for reference, family in ((False, named()), (True, named_with_reference())):
        for name, known in family.items():
            if structure.same_as(known):
                return name, reference
    return None


def losses_over(propositions: int) -> int:
    """How many pairs of truth tables (tick, cross) there are over n propositions: 4^(2^n)."""
    return 4 ** (2**propositions)


def _structure(tt: str, ff: str) -> Structure:
    both, only_winner, only_loser, neither = (
        table(formula)
        for formula in (MW & ML, MW & ~ML, ~MW & ML, ~MW & ~ML)  # type: ignore[operator]
    )
    tick, cross = only_winner, only_loser
    for rows, mark in ((both, tt), (neither, ff)):
        ticked, crossed = next(pair for pair, sign in MARKS.items() if sign == mark)
        tick |= rows * ticked
        cross |= rows * crossed
    return Structure.of_tables(tick, cross)
