"""The symbolic meaning of preference objectives (arXiv 2412.17696).

A pairwise loss is a function of rho = log WMC(tick) - log WMC(cross): two formulas over what the model accepts, each
counted with the model's probabilities as weights.

    formula_of("ipo").describe()            what a method says, in logic
    place("Ml -> Mw; given=Ml | Mw")        where a formula stands among the named losses
    compare("cCPO", "dpo")                  which of two is stricter
    read("cCPO; ref").rho(p_w, p_l, r_w, r_l)

``rather.get_method("logic:cCPO; ref")`` trains any of them. Names are imported when first used: sympy is slow to load
and the truth tables alone do not need it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rather.logic.meaning import formula_of
    from rather.logic.notation import read, write
    from rather.logic.picture import draw
    from rather.logic.questions import compare, place
    from rather.logic.structure import Structure, decompile

_HOME = {
    "Structure": "structure",
    "compare": "questions",
    "decompile": "structure",
    "draw": "picture",
    "formula_of": "meaning",
    "place": "questions",
    "read": "notation",
    "write": "notation",
}

__all__ = ["Structure", "compare", "decompile", "draw", "formula_of", "place", "read", "write"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'rather.logic' has no attribute {name!r}")
    return getattr(import_module(f"rather.logic.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
