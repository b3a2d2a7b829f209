"""From text to a formula: ``Ml -> Mw``, ``Mw & ~Ml``, ``(Mw ^ Ml) | Refw``.

From the tightest: ``~``, ``&``, ``^`` (exclusive or), ``|``, ``->`` (to the right), ``<->``. Words (not, and, xor, or,
implies, iff, true, false) and logical signs do too.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

from sympy import false, true
from sympy.logic.boolalg import And, Boolean, Equivalent, Implies, Not, Or, Xor

from rather.errors import UserError, nearest
from rather.logic.formulas import PROPOSITIONS

SPELLINGS = {
    "~": ("~", "!", "¬", "not"),
    "&": ("&", "&&", "∧", "and"),
    "^": ("^", "⊕", "xor"),
    "|": ("|", "||", "∨", "or"),
    "->": ("->", "=>", "→", "implies"),
    "<->": ("<->", "<=>", "↔", "iff"),
    "(": ("(",),
    ")": (")",),
    "true": ("true", "⊤"),
    "false": ("false", "⊥"),
}
_SIGN = {spelling: sign for sign, spellings in SPELLINGS.items() for spelling in spellings}
_NAMED = {str(symbol): symbol for symbol in PROPOSITIONS}
_DEEPEST = 50
_TOKEN = re.compile(r"\s*(?:(?P<word>[A-Za-z_][A-Za-z_0-9]*)|(?P<sign><->|<=>|->|=>|&&|\|\||\S)|$)")
_INFIX: tuple[tuple[str, Callable[..., Any]], ...] = (
    ("<->", Equivalent),
    ("->", Implies),
    ("|", Or),
    ("^", Xor),
    ("&", And),
)
"""Signs between formulas, from the loosest."""


class Token(NamedTuple):
    """``kind``: a sign of ``SPELLINGS``, ``name``, or ``end``; ``at``: position in the text, from 0."""

    kind: str
    text: str
    at: int


def parse(text: str) -> Boolean:
    """The formula that a text says.

    Raises:
        UserError: what is wrong, and at which position.
    """
    reader = _Reader(text)
    formula = reader.infix(0)
    if reader.token.kind != "end":
        expected = "an operator" if reader.token.kind != ")" else "the end, this ')' was not opened"
        reader.refuse(f"expected {expected}, not {reader.token.text!r}")
    return formula


def is_known(word: str) -> bool:
    """Whether a word is a proposition or a sign."""
    return word.lower() in _SIGN or word.replace("_", "") in _NAMED


class _Reader:
    """Reads by precedence climbing; ``token`` is the next one."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = iter(_tokens(text))
        self.token = next(self.tokens)
        self.depth = 0

    def refuse(self, what: str, fix: str | None = None) -> NoReturn:
        raise _error(self.text, self.token.at, what, fix)

    def take(self, kind: str) -> bool:
        """Go on if the next token is of this kind."""
        if self.token.kind != kind:
            return False
        self.token = next(self.tokens)
        return True

    def infix(self, level: int) -> Boolean:
        if level == len(_INFIX):
            return self.prefix()
        sign, make = _INFIX[level]
        found = self.infix(level + 1)
        while self.take(sign):
            # The arrow binds to the right: a -> b -> c is a -> (b -> c).
            found = make(found, self.infix(level if sign == "->" else level + 1))
        return found

    def prefix(self) -> Boolean:
        self.depth += 1
        if self.depth > _DEEPEST:
            self.refuse(f"more than {_DEEPEST} signs or parentheses inside each other")
        found = self.operand()
        self.depth -= 1
        return found

    def operand(self) -> Boolean:
        if self.take("~"):
            return Not(self.prefix())
        if self.take("("):
            inner = self.infix(0)
            if not self.take(")"):
                self.refuse("a ')' is missing")
            return inner
        for kind, constant in (("true", true), ("false", false)):
            if self.take(kind):
                return constant
        name = self.token.text
        if not self.take("name"):
            shown = "the end" if self.token.kind == "end" else repr(self.token.text)
            self.refuse(f"expected a proposition, '~' or '(', not {shown}")
        return _NAMED[name.replace("_", "")]


def _tokens(text: str) -> list[Token]:
    found: list[Token] = []
    position = 0
    while (match := _TOKEN.match(text, position)) and (match["word"] or match["sign"]):
        word = match["word"] or match["sign"]
        at = match.start("word" if match["word"] else "sign")
        kind = _SIGN.get(word.lower(), "name")
        if not is_known(word):
            fix = nearest(word, _NAMED) if match["word"] else None
            raise _error(text, at, f"{word!r} is no proposition or sign", fix)
        found.append(Token(kind, word, at))
        position = match.end()
    return [*found, Token("end", "", len(text.rstrip()))]


def _error(text: str, at: int, what: str, fix: str | None = None) -> UserError:
    pointer = f"{text}\n  {' ' * at}^"
    return UserError(f"{what}, at position {at + 1}", where="formula", fix=f"{pointer} {fix}" if fix else pointer)
