"""Formulas: syntax, truth tables, short forms, entailment."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sympy.logic.boolalg import And, Equivalent, Implies, Not, Or, Xor, false, true

from logic.spec import quick
from rather.errors import UserError
from rather.logic.counting import log_count, rows_of
from rather.logic.formulas import (
    ALL,
    COLUMNS,
    PROPOSITIONS,
    ROWS,
    depends_on,
    entails,
    equivalent,
    formula_of_table,
    simplify,
    table,
)
from rather.logic.parser import parse
from rather.logic.printing import text_of

FORMULAS = st.recursive(
    st.sampled_from([*PROPOSITIONS, true, false]),
    lambda inner: st.one_of(
        inner.map(Not),
        st.tuples(st.sampled_from([And, Or, Xor, Implies, Equivalent]), inner, inner).map(lambda t: t[0](t[1], t[2])),
    ),
    max_leaves=8,
)


def rows_by_substitution(formula: Any) -> int:
    """The truth table by sympy's own evaluation."""
    found = 0
    for row in range(ROWS):
        values = {symbol: bool(row >> index & 1) for index, symbol in enumerate(PROPOSITIONS)}
        found |= bool(formula.subs(values)) << row
    return found


@quick
@given(FORMULAS)
def test_a_table_is_what_sympy_evaluates(formula: Any) -> None:
    assert table(formula) == rows_by_substitution(formula)


@quick
@given(FORMULAS)
def test_what_is_printed_parses_back(formula: Any) -> None:
    text = text_of(formula)
    again = parse(text)
    assert equivalent(again, formula)
    assert text_of(again) == text


@quick
@given(st.integers(0, ALL))
def test_a_formula_of_a_table_has_this_table(rows: int) -> None:
    assert table(formula_of_table(rows)) == rows


def test_a_formula_of_two_propositions_names_each_at_most_once() -> None:
    for values in itertools.product((False, True), repeat=4):
        rows = sum(1 << row for row in range(ROWS) if values[row & 3])
        formula = formula_of_table(rows)
        assert table(formula) == rows
        assert text_of(formula).count("M") <= 2


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("Ml->Mw", "Ml -> Mw"),
        ("M_l → M_w", "Ml -> Mw"),
        ("Ml implies Mw", "Ml -> Mw"),
        ("~Ml & Mw", "Mw & ~Ml"),
        ("not Ml and Mw", "Mw & ~Ml"),
        ("Mw ∧ ¬Ml", "Mw & ~Ml"),
        ("Mw xor Ml", "Mw ^ Ml"),
        ("Ml <-> Mw", "Mw <-> Ml"),
        ("Ml -> Mw -> Refl", "Ml -> Mw -> Refl"),
        ("(Ml -> Mw) -> Refl", "(Ml -> Mw) -> Refl"),
        ("Mw & Ml ^ Refw | Refl", "Refl | Refw ^ Mw & Ml"),
        ("~(Mw | Ml)", "~(Mw | Ml)"),
        ("(((Mw)))", "Mw"),
        ("Ref_w || Ref_l && true", "Refw | Refl"),
    ],
)
def test_syntax(text: str, spelled: str) -> None:
    formula = parse(text)
    assert equivalent(formula, parse(spelled))
    assert text_of(parse(spelled)) == text_of(formula)


def test_precedence_is_from_not_to_iff() -> None:
    w, m = "Mw", "Ml"
    assert equivalent(parse(f"~{w} & {m}"), parse(f"(~{w}) & {m}"))
    assert equivalent(parse(f"{w} & {m} ^ Refw"), parse(f"({w} & {m}) ^ Refw"))
    assert equivalent(parse(f"{w} ^ {m} | Refw"), parse(f"({w} ^ {m}) | Refw"))
    assert equivalent(parse(f"{w} | {m} -> Refw"), parse(f"({w} | {m}) -> Refw"))
    assert equivalent(parse(f"{w} -> {m} <-> Refw"), parse(f"({w} -> {m}) <-> Refw"))
    assert not equivalent(parse(f"{w} -> {m} -> Refw"), parse(f"({w} -> {m}) -> Refw"))


@pytest.mark.parametrize(
    ("text", "position", "words"),
    [
        ("", 1, "not the end"),
        ("Ml ->", 6, "expected a proposition"),
        ("Ml Mw", 4, "expected an operator"),
        ("(Ml", 4, "a ')' is missing"),
        ("Ml)", 3, "was not opened"),
        ("Ml & | Mw", 6, "expected a proposition"),
        ("Mk & Ml", 1, "did you mean 'Mw'"),
        ("Ml $ Mw", 4, "'$' is no proposition or sign"),
        ("Ml = Mw", 4, "'=' is no proposition or sign"),
        ("~" * 60 + "Mw", 51, "inside each other"),
        ("(" * 5000 + "Mw", 51, "inside each other"),
    ],
)
def test_a_mistake_is_told_with_its_position(text: str, position: int, words: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(text)
    message = str(caught.value)
    assert f"at position {position}" in message
    assert words in message
    pointer = next(line for line in message.splitlines() if line.lstrip().startswith("^"))
    assert pointer.index("^") == 2 + position - 1


@quick
@given(FORMULAS, FORMULAS, st.lists(st.floats(-5, -0.01), min_size=4, max_size=4))
def test_entailment_by_weighted_model_counting(one: Any, other: Any, logps: list[float]) -> None:
    """One formula entails another exactly when the weighted count of the one without the other is 0."""
    against = log_count(torch.tensor(logps, dtype=torch.float64), rows_of(table(And(one, Not(other))), 4))
    assert entails(one, other) == bool(against == -torch.inf)


@quick
@given(FORMULAS)
def test_simplify_keeps_the_table_and_does_not_lengthen(formula: Any) -> None:
    short = simplify(formula)
    assert equivalent(short, formula)
    named = {symbol for symbol in PROPOSITIONS if depends_on(table(formula), symbol)}
    assert short.atoms(*{type(symbol) for symbol in PROPOSITIONS}) == named


def test_columns() -> None:
    for index, symbol in enumerate(PROPOSITIONS):
        assert [bool(COLUMNS[symbol] >> row & 1) for row in range(ROWS)] == [
            bool(row >> index & 1) for row in range(ROWS)
        ]
