"""Questions about formulas, named losses and methods alike: where one stands, and which of two is stricter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rather.errors import UserError
from rather.logic.formulas import PROPOSITIONS, ROWS, symbols_of
from rather.logic.lattice import Place, place_of
from rather.logic.meaning import MEANINGS, PREFIX, formula_of
from rather.logic.notation import read
from rather.logic.structure import MARKS, Structure

Relation = Literal["equivalent", "stricter", "looser", "incomparable"]
Said = str | Structure
"""A structure, a formula, the name of one of the sixteen losses, or a method of the library."""


def structure_of(said: Said) -> Structure:
    """The structure that is meant. A method's own name goes before a loss's; where both exist they agree.

    Raises:
        UserError: a formula that cannot be read, or a method without a meaning.
    """
    if isinstance(said, Structure):
        return said
    if any(said in names for names in MEANINGS):
        meaning = formula_of(said)
        if meaning.structure is None:
            raise UserError(f"the method {said!r} has no meaning in logic", where="logic", fix=meaning.note)
        return meaning.structure
    return read(said.removeprefix(PREFIX))


def place(said: Said) -> Place:
    """Where a structure stands: its name among the sixteen losses if it has one, and the nearest on either side.

    Raises:
        UserError: see ``structure_of``.
    """
    return place_of(structure_of(said))


@dataclass(frozen=True)
class Comparison:
    """Two structures side by side.

    Attributes:
        relation: of the first to the second; ``stricter``: its loss is at least as large for all probabilities.
        rows: where they differ: row -> (mark of the first, mark of the second).
    """

    relation: Relation
    rows: dict[str, tuple[str, str]]

    def describe(self) -> str:
        """The relation, and the rows that make it."""
        told = {
            "equivalent": "equivalent: the same loss",
            "stricter": "the first is stricter: its loss is at least as large, whatever the probabilities",
            "looser": "the first is looser: its loss is at most as large, whatever the probabilities",
            "incomparable": "incomparable: which loss is larger depends on the probabilities",
        }[self.relation]
        rows = [f"{row}: {one} against {other}" for row, (one, other) in self.rows.items()]
        return "\n".join([told, *rows])


def compare(one: Said, other: Said) -> Comparison:
    """Which of two structures is stricter, and in which rows of the truth table they differ.

    Rows are over the propositions that either speaks of. Marks: ✓ for the formula, × against it, ✓× both, - not counted.

    Raises:
        UserError: see ``structure_of``.
    """
    a, b = structure_of(one), structure_of(other)
    relation: Relation = (
        "equivalent"
        if a.same_as(b)
        else "stricter"
        if a.stricter_than(b)
        else "looser"
        if b.stricter_than(a)
        else "incomparable"
    )
    symbols = symbols_of(a.tick, a.cross, b.tick, b.cross)
    rows: dict[str, tuple[str, str]] = {}
    for row in range(ROWS):
        name = " ".join(f"{'' if row >> PROPOSITIONS.index(s) & 1 else '~'}{s}" for s in symbols)
        marks = tuple(MARKS[bool(each.tick >> row & 1), bool(each.cross >> row & 1)] for each in (a, b))
        if marks[0] != marks[1]:
            rows[name] = (marks[0], marks[1])
    return Comparison(relation, rows)
