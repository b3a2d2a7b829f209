"""Formulas over what the model and its reference accept, and their truth tables.

Propositions: Mw, Ml (the model accepts the winner, the loser), Refw, Refl (the reference does). All truth tables are
over the four of them, so formulas of any of them can be compared.
"""

from __future__ import annotations

from typing import Any

from sympy import Symbol, false, true
from sympy.logic import POSform, SOPform
from sympy.logic.boolalg import And, Boolean, BooleanFalse, BooleanTrue, Equivalent, Implies, Not, Or, Xor

PROPOSITIONS = MW, ML, REFW, REFL = tuple(Symbol(name) for name in ("Mw", "Ml", "Refw", "Refl"))
ROWS = 2 ** len(PROPOSITIONS)
ALL = 2**ROWS - 1
"""The table in which every row is true."""


def _column(index: int) -> int:
    return sum(1 << row for row in range(ROWS) if row >> index & 1)


COLUMNS = {symbol: _column(index) for index, symbol in enumerate(PROPOSITIONS)}
"""The table of each proposition alone."""


def table(formula: Any) -> int:
    """The rows in which a formula is true, as an integer of ``ROWS`` bits (see ``rather.logic.counting``)."""
    if isinstance(formula, BooleanTrue):
        return ALL
    if isinstance(formula, BooleanFalse):
        return 0
    if formula in COLUMNS:
        return COLUMNS[formula]
    parts = [table(argument) for argument in formula.args]
    if isinstance(formula, Not):
        return ALL ^ parts[0]
    if isinstance(formula, Implies):
        return (ALL ^ parts[0]) | parts[1]
    if isinstance(formula, Equivalent):
        same = ALL
        for part in parts:
            same &= ALL ^ parts[0] ^ part
        return same
    found = parts[0]
    for part in parts[1:]:
        found = found & part if isinstance(formula, And) else found | part if isinstance(formula, Or) else found ^ part
    return found


def entails(one: Boolean, other: Boolean) -> bool:
    """Whether ``other`` holds wherever ``one`` does: the weighted count of the rows against it is 0 for all weights."""
    return table(one) & ~table(other) == 0


def equivalent(one: Boolean, other: Boolean) -> bool:
    """Whether two formulas have the same truth table."""
    return table(one) == table(other)


def depends_on(rows: int, symbol: Symbol) -> bool:
    """Whether a table changes with a proposition."""
    shift = 1 << PROPOSITIONS.index(symbol)
    return bool((rows ^ rows >> shift) & (ALL ^ COLUMNS[symbol]))


def symbols_of(*tables: int) -> tuple[Symbol, ...]:
    """The propositions that some table depends on."""
    return tuple(symbol for symbol in PROPOSITIONS if any(depends_on(rows, symbol) for rows in tables))


def formula_of_table(rows: int) -> Boolean:
    """A short formula with this truth table: an implication, exclusive or, or normal form."""
    symbols = symbols_of(rows)
    if not symbols:
        return true if rows else false
    minterms = [
        {symbol: int(row >> PROPOSITIONS.index(symbol) & 1) for symbol in symbols}
        for row in range(ROWS)
        if rows >> row & 1
    ]
    forms: list[Any] = [_arrow(form(symbols, minterms)) for form in (SOPform, POSform)]
    if len(symbols) == 2:
        forms += [form for form in (Xor(*symbols), Equivalent(*symbols)) if table(form) == rows]
    return min(forms, key=_literals)


def simplify(formula: Boolean) -> Boolean:
    """A short formula with the same truth table."""
    return formula_of_table(table(formula))


def _arrow(formula: Any) -> Any:
    """``~a | b`` as ``a -> b``, which is how preferences are said."""
    if not isinstance(formula, Or):
        return formula
    negated: list[Any] = [part.args[0] for part in formula.args if isinstance(part, Not)]
    others = [part for part in formula.args if not isinstance(part, Not)]
    return Implies(And(*negated), Or(*others)) if negated and others else formula


def _literals(formula: Any) -> int:
    """How often propositions are named."""
    return sum(1 for part in formula.atoms(Symbol)) if not formula.args else sum(map(_literals, formula.args))
