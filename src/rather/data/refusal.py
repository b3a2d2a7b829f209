"""A row that cannot be used, and why."""

from __future__ import annotations

from dataclasses import dataclass

from rather.data.types import Source


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a row was left out: ``code`` groups refusals of one kind, ``reason`` is the sentence for the user."""

    source: Source
    code: str
    reason: str

    def __str__(self) -> str:
        return f"{self.source}: {self.reason}"


class Refused(Exception):
    """Raised while a row is read; the reader turns it into a ``Refusal``."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason
