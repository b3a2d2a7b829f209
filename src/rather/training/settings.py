"""From YAML, flags and keyword arguments to a validated ``TrainConfig``.

Each value remembers where it came from, so that an error names the file and line, the flag, or the keyword.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from rather.errors import UserError, nearest
from rather.training.config import TrainConfig


@dataclass(frozen=True)
class Settings:
    """Flat settings, dotted where nested, and where each was given."""

    values: dict[str, Any] = field(default_factory=dict)
    origin: dict[str, str] = field(default_factory=dict)

    def over(self, below: Settings) -> Settings:
        """These settings, and those of ``below`` that they leave open."""
        return Settings({**below.values, **self.values}, {**below.origin, **self.origin})

    def where(self, name: str) -> str:
        return self.origin.get(name, f"--{name}")


def from_keywords(values: Mapping[str, Any]) -> Settings:
    """Settings given to ``rather.train``."""
    flat = _flatten(values)
    return Settings(flat, {name: name for name in flat})


def from_flags(values: Mapping[str, Any], extra: list[str]) -> Settings:
    """Flags that are settings, and the rest of the command line, which must be options of the method.

    Raises:
        UserError: a word that is no option, or an option without a value.
    """
    found = {name: value for name, value in values.items() if value is not None}
    words = list(extra)
    while words:
        word = words.pop(0)
        if not word.startswith("--"):
            raise UserError(
                f"unexpected argument {word!r}", where="rather train", fix="settings are given as --NAME VALUE"
            )
        name, joined, text = word[2:].partition("=")
        if not joined:
            if not words or words[0].startswith("--"):
                if name.replace("-", "_") in known_names({**values}):
                    raise UserError("has no value", where=f"--{name}", fix=f"write --{name} VALUE")
                text = "true"  # resolved below to "unknown option", or to a method's switch
            else:
                text = words.pop(0)
        found[name.replace("-", "_")] = _scalar(text)
    return Settings(found, {name: f"--{name.replace('_', '-')}" for name in found})


def from_yaml(path: Path) -> Settings:
    """Settings of a YAML file, flat or nested.

    Raises:
        UserError: no such file, not YAML, not a mapping, or a key given twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError("no such file", where=str(path), fix="give a YAML file of settings to --config") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot be read: {error}", where=str(path)) from error
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise UserError(f"not valid YAML: {problem}", where=f"{path}{line}") from None
    if node is None:
        return Settings()
    if not isinstance(values, dict):
        raise UserError(
            f"holds a {type(values).__name__}, not settings", where=f"{path}:1", fix="write one `name: value` per line"
        )
    lines = _lines(node, path)
    flat = _flatten(values)
    return Settings(flat, {name: _nearest_line(name, lines, path) for name in flat})


def resolve(settings: Settings) -> TrainConfig:
    """The validated configuration, with all options of the method.

    Raises:
        UserError: an unknown key (names the nearest known one), a wrong type, a value out of range.
    """
    from rather.methods.registry import get

    values = dict(settings.values)
    nested_name = values.pop("method.name", None)
    if nested_name is not None:
        values["method"] = nested_name
    values = {name.removeprefix("method.").removeprefix("method_options."): value for name, value in values.items()}
    origin = {re.sub(r"^(method|method_options)\.(?!name$)", "", k): v for k, v in settings.origin.items()}
    settings = Settings(values, {**origin, "method": origin.get("method", origin.get("method.name", "--method"))})
    own = {name: value for name, value in values.items() if name in TrainConfig.model_fields}
    method_name = own.get("method", TrainConfig.model_fields["method"].default)
    try:
        method = get(str(method_name))
    except UserError as error:
        raise UserError(error.what, where=settings.where("method"), fix=error.fix) from None
    options = {name: value for name, value in values.items() if name not in own}
    for name in options:
        if name not in method.option_names():
            fix = nearest(
                name, [*(n for n in TrainConfig.model_fields if n != "method_options"), *method.option_names()]
            )
            what = f"neither a setting nor an option of the method {method.name!r}"
            raise UserError(
                what,
                where=f"{settings.where(name)}: {name}" if ":" in settings.where(name) else settings.where(name),
                fix=fix,
            )
    try:
        chosen = method.configure(
            {name: value for name, value in options.items() if value is not None or name in options}
        )
    except UserError as error:
        name = (error.where or "").removeprefix("--")
        raise UserError(
            error.what, where=settings.where(name) if name in options else error.where, fix=error.fix
        ) from None
    own["method"] = method.name
    own["method_options"] = _flatten(chosen.model_dump())
    return _validate(own, settings)


def _validate(own: dict[str, Any], settings: Settings) -> TrainConfig:
    try:
        return TrainConfig.model_validate(own)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else ""
        if first["type"] == "missing":
            raise UserError(
                "is needed", where=f"--{name}", fix=str(TrainConfig.model_fields[name].description)
            ) from None
        same = [each["msg"] for each in error.errors() if each["loc"][:1] == first["loc"][:1]]
        what = " or ".join(dict.fromkeys(same)).removeprefix("Value error, ")
        if not name:
            raise UserError(what, where="settings") from None
        fix = f"got {own[name]!r}; {name}: {TrainConfig.model_fields[name].description}"
        where = settings.where(name)
        raise UserError(
            what, where=where if name in where.replace("-", "_") else f"{where} ({name})", fix=fix
        ) from None


def known_names(values: Mapping[str, Any]) -> set[str]:
    """Settings and, where it can be told, the options of the chosen method."""
    from rather.methods.registry import get

    try:
        options = get(str(values.get("method") or "dpo")).option_names()
    except UserError:
        options = []
    return {*TrainConfig.model_fields, *options}


def dump(config: TrainConfig) -> str:
    """The resolved configuration as YAML that ``from_yaml`` reads back."""
    nested: dict[str, Any] = {}
    for name, value in config.flat().items():
        *path, last = name.split(".")
        level = nested
        for part in path:
            level = level.setdefault(part, {})
        level[last] = value
    return yaml.safe_dump(nested, sort_keys=False, allow_unicode=True)


def _scalar(text: str) -> Any:
    """A flag's text as YAML reads it (numbers, true, null); anything else stays text."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    return value if value is None or isinstance(value, bool | int | float | list) else text


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        key = f"{prefix}{name}".replace("-", "_")
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{key}.")
        else:
            flat[key] = value
    return flat


def _lines(node: yaml.Node, path: Path, prefix: str = "") -> dict[str, int]:
    """Line of each key, dotted; a key given twice is an error, since YAML would drop the first in silence."""
    found: dict[str, int] = {}
    if not isinstance(node, yaml.MappingNode):
        return found
    for key, value in node.value:
        name = f"{prefix}{key.value}".replace("-", "_")
        line = key.start_mark.line + 1
        if name in found:
            raise UserError(f"{name!r} is given twice, first in line {found[name]}", where=f"{path}:{line}")
        found[name] = line
        found |= _lines(value, path, f"{name}.")
    return found


def _nearest_line(name: str, lines: Mapping[str, int], path: Path) -> str:
    while name not in lines and "." in name:
        name = name.rpartition(".")[0]
    return f"{path}:{lines[name]}" if name in lines else str(path)
