"""Preference structures, and the two-way translation between formulas and losses (arXiv 2412.17696).

A structure is (P, P_C, P_A): a core formula, the rows that are counted at all, and rows that are counted on both sides.

    tick = (P | P_A) & P_C,   cross = (~P | P_A) & P_C,   rho = log WMC(tick) - log WMC(cross)

Going back, from rho = log(top / bottom) with top and bottom polynomials of probabilities,

    P = Sem(bottom) -> Sem(top),   P_C = Sem(top) | Sem(bottom),   P_A = Sem(top) & Sem(bottom)

whose tick is Sem(top) and whose cross is Sem(bottom), so compiling gives rho back.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sympy import Expr, Integer, Poly, PolynomialError, Symbol, false, true
from sympy.logic.boolalg import Boolean

from rather.errors import UserError
from rather.logic.formulas import ALL, COLUMNS, PROPOSITIONS, REFL, REFW, ROWS, formula_of_table, symbols_of, table
from rather.logic.printing import factor_texts

if TYPE_CHECKING:
    from torch import Tensor

PROBABILITIES = P_W, P_L, R_W, R_L = tuple(Symbol(name) for name in ("p_w", "p_l", "r_w", "r_l"))
"""Probabilities of the propositions, in their order: of the winner and the loser under policy and reference."""

MARKS = {(False, False): "-", (True, False): "✓", (False, True): "×", (True, True): "✓×"}
M_ROWS = {"TT": (True, True), "TF": (True, False), "FT": (False, True), "FF": (False, False)}
"""The four rows over (Mw, Ml)."""


@dataclass(frozen=True)
class Structure:
    """A preference structure.

    Attributes:
        core: P, what is to hold.
        given: P_C, which rows are counted.
        also: P_A, which rows are counted on both sides.
    """

    core: Boolean
    given: Boolean = true
    also: Boolean = false

    @staticmethod
    def of_tables(tick: int, cross: int) -> Structure:
        """The structure, in short formulas, with these rows (see ``rather.logic.formulas.table``)."""
        return Structure(
            formula_of_table((ALL ^ cross) | tick), formula_of_table(tick | cross), formula_of_table(tick & cross)
        )

    @cached_property
    def tick(self) -> int:
        """Rows that count for the formula."""
        return (table(self.core) | table(self.also)) & table(self.given)

    @cached_property
    def cross(self) -> int:
        """Rows that count against it."""
        return (ALL ^ table(self.core) | table(self.also)) & table(self.given)

    @property
    def propositions(self) -> tuple[Symbol, ...]:
        """Those that the loss depends on."""
        return symbols_of(self.tick, self.cross)

    @property
    def needs_reference(self) -> bool:
        return not {REFW, REFL}.isdisjoint(self.propositions)

    def marks(self) -> dict[str, str]:
        """Mark of each of the four rows over (Mw, Ml), for a structure without reference."""
        if self.needs_reference:
            raise ValueError("the rows of a structure with reference are those over all four propositions")
        found = {}
        for name, (winner, loser) in M_ROWS.items():
            row = 1 << (winner + 2 * loser)
            found[name] = MARKS[bool(self.tick & row), bool(self.cross & row)]
        return found

    def same_as(self, other: Structure) -> bool:
        """Whether both have the same rows, so the same loss."""
        return (self.tick, self.cross) == (other.tick, other.cross)

    def stricter_than(self, other: Structure) -> bool:
        """Whether rho is never above the other's, for any probabilities: fewer rows for it, or more against it."""
        return not self.same_as(other) and self.tick & ~other.tick == 0 and other.cross & ~self.cross == 0

    def with_reference(self) -> Structure:
        """The reference version: rho + log r_l - log r_w; Refl joins the rows for it, Refw those against it."""
        if self.needs_reference:
            raise ValueError("the structure has a reference already")
        return Structure.of_tables(self.tick & COLUMNS[REFL], self.cross & COLUMNS[REFW])

    def without_reference(self) -> Structure | None:
        """The structure whose reference version this is; ``None`` when there is no such one."""
        if not self.needs_reference:
            return None
        tick, cross = (_forget(rows, symbol) for rows, symbol in ((self.tick, REFL), (self.cross, REFW)))
        base = Structure.of_tables(tick, cross)
        return base if not base.needs_reference and base.with_reference().same_as(self) else None

    def rho(self, p_w: Tensor, p_l: Tensor, r_w: Tensor | None = None, r_l: Tensor | None = None) -> Tensor:
        """log WMC(tick) - log WMC(cross), elementwise, with gradient.

        Args:
            p_w, p_l: log-probabilities of winner and loser under the policy.
            r_w, r_l: under the reference, for a structure that has one.
        """
        import torch

        from rather.logic.counting import log_count, rows_of

        logps = [p_w, p_l] if r_w is None or r_l is None else [p_w, p_l, r_w, r_l]
        if self.needs_reference and len(logps) == 2:
            raise ValueError("the structure speaks of the reference; pass its log-probabilities")
        stacked = torch.stack(logps, -1)
        tick, cross = (log_count(stacked, rows_of(rows, len(logps))) for rows in (self.tick, self.cross))
        return tick - cross

    def polynomials(self) -> tuple[Expr, Expr]:
        """top and bottom: exp rho is their ratio."""
        return _polynomial(self.tick), _polynomial(self.cross)

    def ratio(self) -> str:
        """exp rho as text: ``p_w / (p_l (1 - p_w))``."""
        top, bottom = (factor_texts(side) for side in self.polynomials())
        below = " ".join(bottom)
        return f"{' '.join(top)} / {below}" if len(bottom) == 1 else f"{' '.join(top)} / ({below})"

    def check(self, where: str) -> None:
        """Raises a ``UserError`` when nothing can be learned: no rows on a side, or a loss that ignores the model."""
        shown = {"for": self.tick, "against": self.cross}
        for side, rows in shown.items():
            if not rows:
                what = f"no row of the truth table counts {side} the formula, so the loss is infinite"
                raise UserError(
                    what, where=where, fix="the formula, where it is counted, must be true here and false there"
                )
        top, bottom = self.polynomials()
        if all((top.diff(p) * bottom - top * bottom.diff(p)).expand() == 0 for p in (P_W, P_L)):
            raise UserError("the loss does not depend on the model", where=where, fix="say something of Mw or Ml")


def decompile(top: Any, bottom: Any) -> Structure:
    """The structure of rho = log(top / bottom).

    Args:
        top, bottom: polynomials in ``PROBABILITIES``, each a sum of products of p and 1 - p of which no two can be true
            in one row.

    Raises:
        UserError: a polynomial is no such sum; names the row that is counted more than once, or less.
    """
    return Structure.of_tables(_sem(top, "top"), _sem(bottom, "bottom"))


def _sem(polynomial: Any, where: str) -> int:
    """The rows of a polynomial: a multilinear one is fixed by its values at the corners, and these must be 0 or 1."""
    try:
        poly = Poly(polynomial, *PROBABILITIES)
    except PolynomialError as error:
        raise UserError(f"not a polynomial of p_w, p_l, r_w, r_l: {error}", where=where) from None
    if any(power > 1 for powers in poly.monoms() for power in powers):
        fix = "a square needs a second copy of its proposition, which these formulas do not have"
        raise UserError(f"{poly.as_expr()} is not multilinear", where=where, fix=fix)
    found = 0
    for row in range(ROWS):
        corner = [row >> index & 1 for index in range(len(PROPOSITIONS))]
        value: Any = poly(*corner)
        if value not in (0, 1):
            names = ", ".join(
                f"{p} = {v}" for p, v in zip(PROBABILITIES, corner, strict=True) if p in poly.free_symbols
            )
            fix = "write it as a sum of products of p and 1 - p that exclude each other: p_w + p_l - p_w p_l, not p_w + p_l"
            raise UserError(f"the row {names} is counted {value} times", where=where, fix=fix)
        found |= int(value) << row
    return found


def _polynomial(rows: int) -> Expr:
    """The weighted count of a table as a polynomial."""
    symbols = symbols_of(rows)
    index = [PROPOSITIONS.index(symbol) for symbol in symbols]
    total: Any = 0
    for row in {tuple(row >> i & 1 for i in index) for row in range(ROWS) if rows >> row & 1}:
        term: Any = 1
        for i, value in zip(index, row, strict=True):
            term *= PROBABILITIES[i] if value else 1 - PROBABILITIES[i]
        total += term
    return total.expand() if symbols else Integer(bool(rows))


def _forget(rows: int, symbol: Symbol) -> int:
    """The rows of a table in which a proposition is true, whatever its value."""
    column, shift = COLUMNS[symbol], 1 << PROPOSITIONS.index(symbol)
    kept = rows & column
    return kept | kept >> shift
