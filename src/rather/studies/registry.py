"""Every study by name: the modules of this package that define ``STUDY``."""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module

import rather.studies
from rather.errors import UserError, nearest
from rather.studies.base import Study

PACKAGE = rather.studies.__name__


@cache
def studies() -> dict[str, Study]:
    """Slug to study, sorted by slug."""
    found = [study for study in map(_of_module, _module_names()) if study]
    return {study.slug: study for study in sorted(found, key=lambda study: study.slug)}


def get(slug: str) -> Study:
    """The study of this slug; underscores will do for hyphens. Imports no other study when it exists.

    Raises:
        UserError: no such study; names the nearest.
    """
    name = slug.lower().replace("-", "_")
    study = _of_module(name) if name in _module_names() else None
    if study is None:
        raise UserError(f"no study {slug!r}", where="rather study", fix=nearest(slug, studies()))
    return study


def _module_names() -> list[str]:
    return [found.name for found in pkgutil.iter_modules(rather.studies.__path__)]


def _of_module(name: str) -> Study | None:
    study = getattr(import_module(f"{PACKAGE}.{name}"), "STUDY", None)
    return study if isinstance(study, Study) else None
