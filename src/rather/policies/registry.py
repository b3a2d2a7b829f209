"""From settings to a policy.

A model's name is a language model's unless a prefix claims it: ``toy:points`` is opened by what registers as ``toy``. A
folder with an image pipeline is known by its files.
Packages register through the entry-point group ``rather.policies`` (name: the prefix; value: ``module:function``).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import cast

from rather.errors import UserError, nearest
from rather.policies.base import Policy
from rather.policies.pipelines.files import is_pipeline
from rather.policies.settings import PolicySettings

Factory = Callable[[PolicySettings], Policy]

IMAGE = "image"

_factories: dict[str, str | Factory] = {
    "toy": "rather.policies.toys:open_toy",
    "reward": "rather.policies.reward:open_reward",
    IMAGE: "rather.policies.pipelines.opening:open_image",
}


def register_policy(prefix: str, factory: str | Factory) -> None:
    """Open names that start with ``prefix:`` by ``factory``.

    Args:
        factory: a function of the settings, or ``"module:function"``, imported when first needed.
    """
    _factories[prefix] = factory


def prefix_of(model: str) -> str | None:
    """What claims a model's name; ``None``: it is a language model's. ``toy:shapes`` is an image pipeline like others."""
    if model.partition("?")[0] == "toy:shapes":
        return IMAGE
    prefix, colon, _ = model.partition(":")
    if colon and prefix.isidentifier():
        return prefix
    return IMAGE if is_pipeline(Path(model).expanduser()) else None


def open_policy(settings: PolicySettings) -> Policy:
    """Load what ``settings.model`` names.

    Raises:
        UserError: the model cannot be found or loaded, or nothing is registered for its prefix.
    """
    prefix = prefix_of(settings.model)
    if prefix is not None:
        return _find(prefix, settings.model)(settings)
    from rather.policies.language import LanguagePolicy

    return LanguagePolicy.load(settings)


def _find(prefix: str, model: str) -> Factory:
    named = {point.name: point.value for point in entry_points(group="rather.policies")}
    known = named | _factories
    if prefix not in known:
        fix = nearest(prefix, known) if known else "give a folder, a hub name or an alias"
        raise UserError(f"no kind of policy is called {prefix!r}", where=f"model {model}", fix=fix)
    found = known[prefix]
    if isinstance(found, str):
        module, _, name = found.partition(":")
        found = cast(Factory, getattr(importlib.import_module(module), name))
    return found
