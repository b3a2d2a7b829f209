"""Options inside a name: ``points?pairs=2000&flip=0.2``."""

from __future__ import annotations

from typing import TypeVar
from urllib.parse import parse_qsl

from pydantic import BaseModel, ConfigDict, ValidationError

from rather.errors import UserError, nearest


class QueryOptions(BaseModel):
    """Options of a world or a toy model; every field is a key of the query."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Options = TypeVar("Options", bound=QueryOptions)


def split_query(name: str, where: str) -> tuple[str, dict[str, str]]:
    """``"points?flip=0.2"`` to ``("points", {"flip": "0.2"})``.

    Raises:
        UserError: the query is not made of ``key=value``, or a key is given twice.
    """
    head, mark, query = name.partition("?")
    if not mark:
        return head, {}
    try:
        items = parse_qsl(query, keep_blank_values=True, strict_parsing=True)
    except ValueError:
        raise UserError(f"cannot read the options {query!r}", where=where, fix="write ?key=value&key=value") from None
    values = dict(items)
    if len(values) != len(items):
        twice = next(key for key in values if sum(k == key for k, _ in items) > 1)
        raise UserError(f"the option {twice!r} is given twice", where=where)
    return head, values


def read_options(model: type[Options], values: dict[str, str], where: str) -> Options:
    """Validated options.

    Raises:
        UserError: an unknown option (names the nearest), or a value out of range.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        if first["type"] == "extra_forbidden":
            fix = nearest(name, model.model_fields)
            raise UserError(f"there is no option {name!r}", where=where, fix=fix) from None
        about = model.model_fields[name].description
        raise UserError(f"{name}={first['input']}: {first['msg']}", where=where, fix=f"{name}: {about}") from None
