"""Every checker by name, and which of them go together."""

from __future__ import annotations

from collections.abc import Sequence

from rather.errors import UserError, nearest
from rather.worlds.instructions.checkers import characters, edges, layout, length, vocabulary
from rather.worlds.instructions.checkers.base import Args, Checker

CHECKERS: dict[str, Checker] = {
    checker.name: checker for module in (length, vocabulary, edges, characters, layout) for checker in module.CHECKERS
}


def checker(name: str) -> Checker:
    """The checker of that name.

    Raises:
        UserError: there is none.
    """
    if name not in CHECKERS:
        raise UserError(f"unknown checker {name!r}", fix=nearest(name, CHECKERS))
    return CHECKERS[name]


def compatible(constraints: Sequence[tuple[str, Args]]) -> bool:
    """Whether the constraints can be asked for together.

    No two share a slot, and what one requires no other forbids. (That they can be satisfied one by one is tested; a
    joint answer is not searched for.)
    """
    taken: set[str] = set()
    for name, args in constraints:
        one = checker(name)
        if one.slots & taken:
            return False
        taken |= one.slots
        if one.forbids and any(
            needed and not _allows(one, args, needed)
            for other, other_args in constraints
            if other != name and (needed := checker(other).required(other_args))
        ):
            return False
    return True


def _allows(one: Checker, args: Args, needed: str) -> bool:
    return one.check(args, f"x {needed} x")
