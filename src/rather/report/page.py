"""What every page has in common: the templates, style, script, content security policy, and how it is written."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import tempfile
from datetime import datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from rather.report import theme
from rather.report.chart import legend_sample


def render(template: str, **values: Any) -> str:
    """A self-contained page from a template that extends ``page.html.j2``."""
    environment = _environment()
    style = _style()
    script = environment.loader.get_source(environment, "report.js")[0] if environment.loader else ""
    return environment.get_template(template).render(
        style=Markup(style),
        style_hash=_hash(style),
        script=Markup(script),
        script_hash=_hash(script),
        rather=_version(),
        now=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        **values,
    )


def write(path: Path, text: str) -> Path:
    """Write a page in one step, readable by everyone; characters that are not Unicode become references."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=".html")
    with os.fdopen(handle, "w", encoding="utf-8", errors="xmlcharrefreplace") as file:
        file.write(text)
    os.chmod(temporary, 0o644)
    os.replace(temporary, path)
    return path


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("rather.report"), autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True
    )
    environment.globals["sample"] = lambda style: Markup(legend_sample(style))
    environment.filters["ticks"] = _ticks
    return environment


@cache
def _style() -> str:
    template = _environment().get_template("report.css.j2")
    # Values are our own constants; escaping would turn quotes in selectors into entities.
    return template.render(light=Markup(theme.variables(theme.LIGHT)), dark=Markup(theme.variables(theme.DARK)))


def _hash(text: str) -> str:
    """Hash of an inline style or script for the page's content security policy."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _ticks(text: str) -> Markup:
    """Text with ``code`` between backquotes; everything else is escaped."""
    parts = re.split(r"`([^`]*)`", text)
    return Markup("").join(Markup("<code>{}</code>").format(p) if i % 2 else escape(p) for i, p in enumerate(parts))


def _version() -> str:
    try:
        return version("rather")
    except PackageNotFoundError:
        return ""
