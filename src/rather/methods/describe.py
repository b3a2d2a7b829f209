"""A method as plain data: what the command line prints and the documentation is made of."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from rather.methods.base import Method


def docstring(method: Method) -> str:
    """The text of the method's file: equation, source, what differs from DPO."""
    module = inspect.getmodule(method.build)
    return inspect.cleandoc(module.__doc__ or "") if module else ""


def options(method: Method) -> Iterator[dict[str, Any]]:
    """``{"name", "default", "description"}`` of every option; nested ones have dotted names."""
    yield from _fields(method.options, "")


def _fields(model: type[BaseModel], prefix: str) -> Iterator[dict[str, Any]]:
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _fields(kind, f"{prefix}{name}.")
        else:
            default = None if field.is_required() else field.get_default(call_default_factory=True)
            yield {"name": prefix + name, "default": default, "description": field.description or ""}


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
        "options": list(options(method)),
        "dpo_limit": None if method.dpo_limit is None else dict(method.dpo_limit),
        "exceptions": dict(method.exceptions),
        "text": docstring(method),
    }
