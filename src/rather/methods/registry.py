"""Every method by name: those of the library and those that other packages register.

A package adds methods through the entry-point group ``rather.methods``; each entry point names a ``Method``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from rather.errors import UserError, nearest
from rather.methods import (
    aot,
    aot_unpaired,
    apo_down,
    apo_zero,
    bco_pair,
    bt,
    cdpo,
    constrained_po,
    cpo,
    degree_spo,
    diffusion_dpo,
    diffusion_npo,
    discopop,
    dmpo,
    dpo,
    dpo_norm,
    dynamicpo,
    exo_pair,
    gpm,
    gpo,
    hinge,
    inpo,
    ipo,
    kto,
    mapl,
    mapl_rm,
    mapo,
    mapo_tokens,
    mppo,
    nca_pair,
    orpo,
    pad,
    pnapo,
    poly_dpo,
    power,
    power_dl,
    rationale_dpo,
    rationale_orpo,
    rdpo,
    sdpo,
    self_npo,
    seppo,
    sft,
    simpo,
    smpo,
    sparsepo,
    sppo_hard,
    tab_po,
    tdpo,
)
from rather.methods.base import Method

BUILT_IN: tuple[Method, ...] = (
    dpo.METHOD,
    dpo_norm.METHOD,
    diffusion_dpo.METHOD,
    inpo.METHOD,
    smpo.METHOD,
    pnapo.METHOD,
    rdpo.METHOD,
    cdpo.METHOD,
    ipo.METHOD,
    hinge.METHOD,
    mapo.METHOD,
    seppo.METHOD,
    diffusion_npo.METHOD,
    self_npo.METHOD,
    poly_dpo.METHOD,
    discopop.METHOD,
    exo_pair.METHOD,
    nca_pair.METHOD,
    sppo_hard.METHOD,
    apo_zero.METHOD,
    apo_down.METHOD,
    aot.METHOD,
    aot_unpaired.METHOD,
    bco_pair.METHOD,
    kto.METHOD,
    sdpo.METHOD,
    dmpo.METHOD,
    mppo.METHOD,
    dynamicpo.METHOD,
    constrained_po.METHOD,
    power.METHOD,
    power_dl.METHOD,
    tdpo.METHOD,
    sparsepo.METHOD,
    mapo_tokens.METHOD,
    tab_po.METHOD,
    simpo.METHOD,
    cpo.METHOD,
    orpo.METHOD,
    rationale_dpo.METHOD,
    rationale_orpo.METHOD,
    degree_spo.METHOD,
    mapl.METHOD,
    mapl_rm.METHOD,
    sft.METHOD,
    bt.METHOD,
    gpm.METHOD,
    gpo.METHOD,
    pad.METHOD,
)

ADDITIONS: dict[str, Callable[[Method], Method]] = {degree_spo.SUFFIX: degree_spo.onto}
"""Terms that any method of pairs can be given: ``ipo+degree_spo``."""


@cache
def methods() -> dict[str, Method]:
    """Canonical name to method, built-in ones first.

    Raises:
        UserError: another package's entry point does not import, is no ``Method``, or takes a name that exists.
    """
    found = {method.name: method for method in BUILT_IN}
    for entry in entry_points(group="rather.methods"):
        method = _load(entry)
        owner = {name: each.name for each in found.values() for name in (each.name, *each.aliases)}
        if method.name in found:
            raise UserError(f"method {method.name!r} exists already", where=f"entry point {entry.name!r}")
        for name in (method.name, *method.aliases):
            if name in owner:
                raise UserError(f"{name!r} is a name of {owner[name]!r} already", where=f"entry point {entry.name!r}")
        found[method.name] = method
    return found


def _load(entry: EntryPoint) -> Method:
    where = f"entry point {entry.name!r}"
    try:
        method = entry.load()
    except (ImportError, AttributeError) as error:
        fix = f"mend or uninstall the package that provides {entry.value!r}"
        raise UserError(f"does not import: {error}", where=where, fix=fix) from error
    if not isinstance(method, Method):
        raise UserError(f"is not a rather Method but {type(method).__name__}", where=where)
    return method


def get(name: str) -> Method:
    """The method of this name or alias; ``logic:FORMULA`` is one made of the formula, ``NAME+ADDITION`` one with a term of
    ``ADDITIONS``.

    Raises:
        UserError: no such method, naming the nearest; or a formula that cannot be read or trained.
    """
    base, plus, added = name.rpartition("+")
    if plus:
        if added not in ADDITIONS:
            raise UserError(f"no addition {added!r} to a method", where="--method", fix=nearest(added, ADDITIONS))
        return ADDITIONS[added](get(base))
    if name.startswith("logic:"):
        from rather.methods.logic import method_of  # sympy, which nothing else needs, is slow to load

        return method_of(name)
    table = methods()
    if name in table:
        return table[name]
    by_alias = {alias: method for method in table.values() for alias in method.aliases}
    if name in by_alias:
        return by_alias[name]
    raise UserError(f"no method {name!r}", where="--method", fix=nearest(name, [*table, *by_alias]))
