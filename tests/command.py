"""The type of the ``rather`` fixture."""

from __future__ import annotations

from collections.abc import Callable

Call = Callable[..., tuple[int, str, str]]
"""The command line's arguments to (exit code, stdout, stderr)."""
