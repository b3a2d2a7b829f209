"""Every method by name: those of the library and those that other packages register.

A package adds methods through the entry-point group ``rather.methods``; each entry point names a ``Method``.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points

from rather.errors import UserError, nearest
from rather.methods import dpo, rdpo
from rather.methods.base import Method

BUILT_IN: tuple[Method, ...] = (dpo.METHOD, rdpo.METHOD)


@cache
def methods() -> dict[str, Method]:
    """Canonical name to method, built-in ones first."""
    found = {method.name: method for method in BUILT_IN}
    for entry in entry_points(group="rather.methods"):
        method = entry.load()
        if not isinstance(method, Method):
            raise UserError(f"is not a rather Method but {type(method).__name__}", where=f"entry point {entry.name!r}")
        if method.name in found:
            raise UserError(f"method {method.name!r} exists already", where=f"entry point {entry.value!r}")
        found[method.name] = method
    return found


def get(name: str) -> Method:
    """The method of this name or alias.

    Raises:
        UserError: no such method; names the nearest.
    """
    table = methods()
    if name in table:
        return table[name]
    by_alias = {alias: method for method in table.values() for alias in method.aliases}
    if name in by_alias:
        return by_alias[name]
    raise UserError(f"no method {name!r}", where="--method", fix=nearest(name, [*table, *by_alias]))
