"""A preference structure on one line.

    Ml -> Mw                                a formula; every row counts
    Ml -> Mw; given=Ml | Mw; also=Ml & Mw   with conditioning and additive formulas (P_C, P_A)
    cCPO                                    one of the sixteen by name
    cCPO; ref                               its reference version

A formula that names Refw or Refl counts the reference's rows like the model's; ``ref`` is the paper's way of adding a
reference to a loss that has none: log r_l - log r_w is added to rho.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from rather.errors import UserError, nearest
from rather.logic.formulas import PROPOSITIONS
from rather.logic.names import name_of, named
from rather.logic.parser import is_known, parse
from rather.logic.printing import text_of
from rather.logic.structure import Structure

_PARTS = ("given", "also", "ref")


@dataclass(frozen=True)
class Reading:
    """What a line says.

    Attributes:
        text: the line as the library spells it; reads as the same structure.
        structure: with the reference, where ``ref`` asks for one.
    """

    text: str
    structure: Structure


def read(text: str) -> Structure:
    """The structure that a line says.

    Raises:
        UserError: what is wrong, and where.
    """
    return spelled(text).structure


def spelled(text: str) -> Reading:
    """The structure that a line says, and the line in the library's spelling: spaces, order of propositions, names.

    Raises:
        UserError: what is wrong, and where.
    """
    head, *rest = text.split(";")
    parts = _parts(text, rest)
    names = {name.lower(): name for name in named()}
    name = names.get(head.strip().lower())
    if name is not None:
        for part in ("given", "also"):
            if part in parts:
                raise UserError(f"{name} has its own {part!r}", where=f"logic:{text}", fix="write its formula instead")
        base, words = named()[name], [name]
    else:
        if re.fullmatch(r"\s*\w+\s*", head) and not is_known(head.strip()):
            fix = nearest(head.strip(), [*names.values(), *map(str, PROPOSITIONS)])
            raise UserError(f"{head.strip()!r} is no formula and no named loss", where="formula", fix=fix)
        formulas = {part: parse(value) for part, value in {"core": head, **parts}.items() if part != "ref"}
        base = Structure(**formulas)
        words = [text_of(formulas["core"])]
        words += [f"{part}={text_of(formulas[part])}" for part in ("given", "also") if part in formulas]
    if "ref" not in parts:
        return Reading("; ".join(words), base)
    if base.needs_reference:
        fix = "leave out 'ref', or Refw and Refl"
        raise UserError("the formula has a reference already", where=f"logic:{text}", fix=fix)
    return Reading("; ".join([*words, "ref"]), base.with_reference())


def write(structure: Structure) -> str:
    """A short line that reads as this structure: its name where it has one."""
    known = name_of(structure)
    if known is not None:
        return f"{known[0]}; ref" if known[1] else known[0]
    base = structure.without_reference()
    short = Structure.of_tables(*((structure.tick, structure.cross) if base is None else (base.tick, base.cross)))
    words = [text_of(short.core)]
    words += [f"given={text_of(short.given)}"] if text_of(short.given) != "true" else []
    words += [f"also={text_of(short.also)}"] if text_of(short.also) != "false" else []
    return "; ".join(words if base is None else [*words, "ref"])


def _parts(text: str, rest: list[str]) -> dict[str, str]:
    """What stands between the semicolons after the first."""
    found: dict[str, str] = {}
    for part in rest:
        key, equals, value = (piece.strip() for piece in part.partition("="))
        where = f"logic:{text}"
        if key not in _PARTS:
            raise UserError(f"{key!r} is no part of a structure", where=where, fix=nearest(key, _PARTS))
        if key in found:
            raise UserError(f"{key!r} is given twice", where=where)
        if key == "ref" and equals:
            raise UserError("'ref' has no value", where=where, fix="write 'ref' alone")
        if key != "ref" and not equals:
            raise UserError(f"{key!r} has no formula", where=where, fix=f"write {key}=FORMULA")
        found[key] = value
    return found
