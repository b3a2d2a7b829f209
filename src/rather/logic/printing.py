"""From formulas and polynomials to text; what is printed of a formula parses back to it."""

from __future__ import annotations

from itertools import product
from typing import Any

from sympy import Expr, Symbol, factor_list
from sympy.logic.boolalg import And, Boolean, Equivalent, Implies, Not, Or, Xor

from rather.logic.formulas import PROPOSITIONS

_PROBABILITIES = ("p_w", "p_l", "r_w", "r_l")
_ORDER = {str(symbol): index for index, symbol in enumerate(PROPOSITIONS)}
_SIGNS: tuple[tuple[type, str], ...] = ((Equivalent, "<->"), (Implies, "->"), (Or, "|"), (Xor, "^"), (And, "&"))
"""From the loosest."""


def text_of(formula: Boolean) -> str:
    """A formula in the syntax of ``rather.logic.parser``, with no more parentheses than it needs."""
    return _text(formula)[0]


def _text(formula: Any) -> tuple[str, int]:
    """Text, and how tightly its outermost sign binds."""
    if isinstance(formula, Not):
        return "~" + _within(formula.args[0], len(_SIGNS)), len(_SIGNS)
    for level, (kind, sign) in enumerate(_SIGNS):
        if isinstance(formula, kind):
            parts = list(formula.args)
            if kind is Implies:
                return f"{_within(parts[0], level + 1)} -> {_within(parts[1], level)}", level
            return f" {sign} ".join(_within(part, level + 1) for part in sorted(parts, key=_first)), level
    return str(formula).lower() if str(formula) in ("True", "False") else str(formula), len(_SIGNS) + 1


def _within(formula: Any, level: int) -> str:
    text, own = _text(formula)
    return text if own >= level else f"({text})"


def _first(formula: Any) -> tuple[Any, ...]:
    """Sorts by propositions in their order, then by text."""
    names = sorted(_ORDER[str(symbol)] for symbol in formula.atoms(Symbol))
    return (names, _text(formula)[0])


def factor_texts(polynomial: Expr) -> list[str]:
    """A multilinear polynomial of probabilities as a product: ``["p_w", "(1 - p_l)"]``, ``["(1 - p_l (1 - p_w))"]``."""
    sign, factors = factor_list(polynomial)[:2]
    texts: list[tuple[tuple[int, ...], str]] = []
    for factor, _ in factors:
        # Of a factor and its negative, the one that is 1 at some corner is a probability.
        own = factor if _reaches_one(factor) else -factor
        order = tuple(sorted(_PROBABILITIES.index(str(symbol)) for symbol in factor.free_symbols))
        texts.append(((0, *order), str(own)) if own.is_Symbol else ((1, *order), f"({_complement(own)})"))
    return [text for _, text in sorted(texts)] or [str(sign)]


def _reaches_one(polynomial: Expr) -> bool:
    corners = product((0, 1), repeat=len(polynomial.free_symbols))
    symbols = sorted(polynomial.free_symbols, key=str)
    return any(polynomial.subs(dict(zip(symbols, corner, strict=True))) == 1 for corner in corners)


def _complement(polynomial: Expr) -> str:
    """``1 - p_l (1 - p_w)`` where the complement is a product of its own."""
    rest = (1 - polynomial).expand()
    if rest.is_Symbol or len(factor_list(rest)[1]) > 1:
        return "1 - " + " ".join(factor_texts(rest))
    return str(polynomial).replace("*", " ")
