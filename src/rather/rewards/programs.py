"""Judges that are programs: they need no model and are never wrong about what they measure."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from rather.data.fields import text_of
from rather.data.identity import canonical
from rather.data.types import Prompt, Response
from rather.errors import UserError, nearest
from rather.rewards.base import Judge


class Length(Judge):
    """Characters of the response: what a judge with a length bias sees; a control."""

    name = "length"

    def score(self, prompt: Prompt, responses: Sequence[Response]) -> np.ndarray:
        return np.array([len(text_of(response)) for response in responses], float)


class Checker(Judge):
    """Share of a prompt's constraints that a response obeys.

    Args:
        records: prompts with their constraints.
        check: (record, text) -> by name, whether the text obeys.
    """

    def __init__(
        self,
        name: str,
        records: Sequence[Mapping[str, Any]],
        check: Callable[[Mapping[str, Any], str], Mapping[str, bool]],
    ) -> None:
        self.name, self.check = name, check
        self._records = {canonical(record["prompt"]): record for record in records}

    def score(self, prompt: Prompt, responses: Sequence[Response]) -> np.ndarray:
        """
        Raises:
            UserError: the prompt is not one that it knows the constraints of.
        """
        record = self._records.get(canonical(prompt))
        if record is None:
            fix = "it judges answers to the prompts of its own world only"
            raise UserError("the prompt is none of the world's", where=self.name, fix=fix)
        checks = [self.check(record, text_of(response)) for response in responses]
        return np.array([sum(found.values()) / len(found) for found in checks])


class Function(Judge):
    """A function, (prompt, responses) to a number for each, the better the higher."""

    judges = "any"

    def __init__(self, name: str, function: Callable[[Prompt, Sequence[Response]], Any]) -> None:
        self.name, self.function = name, function

    def score(self, prompt: Prompt, responses: Sequence[Response]) -> np.ndarray:
        """
        Raises:
            UserError: it gives something else than a finite number for each response.
        """
        found = self.function(prompt, responses)
        try:
            scores = np.asarray(found, np.float64)
        except (TypeError, ValueError):
            scores = np.empty(0)
        if scores.shape != (len(responses),) or not np.isfinite(scores).all():
            what = f"gave {found!r} for {len(responses)} responses, not a finite number for each"
            raise UserError(
                what, where=f"judge {self.name}", fix="the better the higher, in the order of the responses"
            )
        return scores


def open_python(rest: str) -> Function:
    """``python:MODULE:FUNCTION``.

    Raises:
        UserError: there is no such module, or no function of this name in it.
    """
    module, _, name = rest.partition(":")
    where = f"judge python:{rest}"
    if not module or not name:
        raise UserError("names no function", where=where, fix="write python:MODULE:FUNCTION")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError as error:
        fix = "install it, or name its folder in PYTHONPATH"
        raise UserError(f"cannot be imported: {error}", where=where, fix=fix) from error
    if not callable(found):
        raise UserError(f"the module {module} has no function {name!r}", where=where)
    return Function(f"python:{rest}", found)


def open_length(rest: str) -> Length:
    """``length``."""
    if rest:
        raise UserError(f"takes no argument, got {rest!r}", where="judge length")
    return Length()


def open_checker(rest: str) -> Judge:
    """``checker:instructions``, ``checker:shapes``, ``checker:shapes-grades``.

    Raises:
        UserError: no world of this name has a checker.
    """
    if rest in ("shapes", "shapes-grades"):
        from rather.rewards.images import ShapesChecker

        return ShapesChecker(graded=rest == "shapes-grades")
    if rest != "instructions":
        fix = nearest(rest, ["instructions", "shapes", "shapes-grades"])
        raise UserError(f"no world {rest!r} has answers that a program checks", where="judge checker", fix=fix)
    from rather.worlds.instructions.load import load_prompts
    from rather.worlds.instructions.scoring import score

    return Checker("checker:instructions", [*load_prompts("train"), *load_prompts("heldout")], score)
