"""From settings to a policy."""

from __future__ import annotations

import importlib

from rather.errors import UserError, nearest
from rather.policies.base import Policy
from rather.policies.settings import PolicySettings

FACTORIES: dict[str, str] = {}
"""Prefix of a model's name -> ``module:function`` that takes ``PolicySettings`` and returns a policy."""
