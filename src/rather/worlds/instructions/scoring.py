"""Whether answers obey: one answer, and the pass rate of many."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rather.errors import UserError
from rather.stats import wilson
from rather.worlds.instructions.checkers.registry import checker


def score(record: Mapping[str, Any], answer: str) -> dict[str, bool]:
    """For each constraint of a prompt record, by checker name, whether the answer obeys."""
    return {name: bool(checker(name).check(args, answer)) for name, args in record["constraints"]}


@dataclass(frozen=True)
class Rate:
    """``passed`` of ``n``."""

    passed: int
    n: int

    @property
    def value(self) -> float:
        return self.passed / self.n if self.n else math.nan

    def interval(self) -> tuple[float, float]:
        """Wilson's 95% score interval."""
        return wilson(self.passed, self.n)


@dataclass(frozen=True)
class PassRate:
    """Results of a set of answers.

    Attributes:
        strict: answers that obey all their constraints, of all answers.
        loose: constraints obeyed, of all constraints.
        checkers: by checker, constraints obeyed.
        sizes: strict, by the number of constraints in the prompt.
    """

    strict: Rate
    loose: Rate
    checkers: dict[str, Rate]
    sizes: dict[int, Rate]

    def summary(self) -> dict[str, Any]:
        """JSON-able."""
        low, high = self.strict.interval()
        return {
            "n": self.strict.n,
            "strict": self.strict.value,
            "interval": [low, high],
            "loose": self.loose.value,
            "checkers": {
                name: {"passed": rate.passed, "n": rate.n, "rate": rate.value} for name, rate in self.checkers.items()
            },
            "sizes": {str(size): {"passed": rate.passed, "n": rate.n} for size, rate in self.sizes.items()},
        }


def pass_rate(records: Sequence[Mapping[str, Any]], answers: Sequence[str | Sequence[str]]) -> PassRate:
    """Pass rates of one answer, or several, for each record.

    Raises:
        UserError: the numbers of records and of answers differ.
    """
    if len(records) != len(answers):
        raise UserError(f"{len(records)} prompts but {len(answers)} answers", fix="give one entry for each prompt")
    strict: list[bool] = []
    by_checker: dict[str, list[bool]] = {}
    by_size: dict[int, list[bool]] = {}
    for record, given in zip(records, answers, strict=True):
        for answer in [given] if isinstance(given, str) else given:
            checks = score(record, answer)
            strict.append(all(checks.values()))
            by_size.setdefault(len(checks), []).append(strict[-1])
            for name, obeyed in checks.items():
                by_checker.setdefault(name, []).append(obeyed)
    every = [obeyed for found in by_checker.values() for obeyed in found]
    return PassRate(
        _rate(strict),
        _rate(every),
        {name: _rate(by_checker[name]) for name in sorted(by_checker)},
        {size: _rate(by_size[size]) for size in sorted(by_size)},
    )


def _rate(obeyed: Sequence[bool]) -> Rate:
    return Rate(sum(obeyed), len(obeyed))
