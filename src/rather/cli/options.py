"""Flags made from a pydantic model, so that a setting is declared once."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal

import typer
from pydantic.fields import FieldInfo


def with_flags(
    function: Callable[..., None], fields: dict[str, FieldInfo], names: Iterable[str], panel: Callable[[str], str]
) -> Callable[..., None]:
    """``function`` with one keyword parameter for each setting, as typer reads them.

    A flag that is not given is ``None``: defaults stay with the model, so that a flag can be told from a default.
    Values are passed on as text; the model validates them, with the same messages as for a file.

    Args:
        function: ``function(context, **settings)``; its own parameters come first.
        fields: declarations by name.
        names: those that become flags, in the order of the help.
        panel: help panel of a name.
    """
    own = list(inspect.signature(function, eval_str=True).parameters.values())
    kept = [parameter for parameter in own if parameter.kind is not inspect.Parameter.VAR_KEYWORD]
    taken = {parameter.name for parameter in kept}
    made = [_parameter(name, fields[name], panel(name)) for name in names if name not in taken]

    def command(**values: Any) -> None:
        function(**values)

    command.__name__, command.__doc__ = function.__name__, function.__doc__
    command.__signature__ = inspect.Signature([*kept, *made])  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in [*kept, *made]}
    return command


def _parameter(name: str, field: FieldInfo, panel: str) -> inspect.Parameter:
    flag = name.replace("_", "-")
    text = (field.description or "") + _default(field)
    if field.annotation is bool:
        kind: Any = bool | None
        option = typer.Option(f"--{flag}/--no-{flag}", help=text, rich_help_panel=panel, show_default=False)
    else:
        kind = str | None
        option = typer.Option(
            f"--{flag}", help=text, rich_help_panel=panel, metavar=metavar(field.annotation), show_default=False
        )
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, option])


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return " (needed)"
    if field.default is None:
        return ""
    value = field.default
    shown = (
        ("yes" if value else "no") if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else value
    )
    return f" (default {shown})"


def metavar(annotation: Any) -> str:
    """What a flag takes: ``INT``, ``auto|frozen``, ``INT|auto``."""
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        return metavar(typing.get_args(annotation)[0])
    if origin is Literal:
        return "|".join(map(str, typing.get_args(annotation)))
    if origin in (types.UnionType, typing.Union):
        return "|".join(metavar(part) for part in typing.get_args(annotation) if part is not type(None))
    return {int: "INT", float: "NUMBER", str: "TEXT", bool: "BOOL"}.get(annotation, "VALUE")
