"""A method as plain data: what the command line prints and the documentation is made of."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from rather.methods.base import Method
from rather.objectives.base import wanted


def docstring(method: Method) -> str:
    """The text of the method's file: equation, source, what differs from DPO."""
    module = inspect.getmodule(method.build)
    return inspect.cleandoc(module.__doc__ or "") if module else ""


def options(model: type[BaseModel], prefix: str = "") -> Iterator[dict[str, Any]]:
    """``{"name", "default", "description"}`` of every option of a model; nested ones have dotted names."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from options(kind, f"{prefix}{name}.")
        else:
            default = None if field.is_required() else field.get_default(call_default_factory=True)
            yield {"name": prefix + name, "default": default, "description": field.description or ""}


def reference(method: Method) -> str:
    """Whether the method compares with a reference, and whether that one's scores can be kept."""
    if "reference" not in method.needs:
        return "no"
    return f"live, for its {', '.join(sorted(of_it))}" if (of_it := wanted(method.objective())[1]) else "yes"


def passes(method: Method) -> str:
    """Forward passes over each response in a step: the policy's (with gradient) and the reference's.

    Text scores of a fixed reference are computed once for the whole data, then cached; a denoising draw is new in every
    step, so for images the reference's pass is too.
    """
    added = " (also over responses it adds)" if "auxiliary" in method.needs else ""
    kind = reference(method)
    if kind == "no":
        return f"1{added}"
    return f"1 + 1{added}" if kind != "yes" else f"1 + 1, cached: 1{added}"


def meaning(method: Method) -> str | None:
    """What the method says in logic, as lines of text; ``None`` when it has no formula."""
    from rather.logic import formula_of  # sympy is slow to load

    found = formula_of(method.name)
    return None if found is None or found.formula is None else found.describe()


def limit(method: Method) -> str:
    """When the method is DPO, in words."""
    if method.dpo_limit is None:
        return "no"
    constant = "" if "reference" in method.needs else ", with a constant reference"
    return f"on a single pair{_with(method.dpo_limit, ' with ')}{constant}"


def limits(method: Method) -> list[str]:
    """Other methods that it is under some options, in words."""
    return [f"{one.method}{_with(one.options, ' with ')}{_with(one.under, ' when ')}" for one in method.limits]


def _with(values: Mapping[str, Any], word: str) -> str:
    return word + ", ".join(f"{name}={value}" for name, value in values.items()) if values else ""


def card(method: Method) -> dict[str, Any]:
    """Everything that a method declares, ready for JSON."""
    return {
        "name": method.name,
        "aliases": list(method.aliases),
        "title": method.title,
        "equation": method.equation,
        "source": method.source,
        "needs": sorted(method.needs - {"reference"}),
        "reference": "reference" in method.needs,
        "passes": passes(method),
        "options": list(options(method.options)),
        "dpo_limit": None if method.dpo_limit is None else dict(method.dpo_limit),
        "limits": limits(method),
        "exceptions": dict(method.exceptions),
        "text": docstring(method),
    }
