"""From raw results to ratios: each repeat compares contenders that ran one after another."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Result = Mapping[str, Any]


@dataclass(frozen=True)
class Spread:
    """Median, least and most over the repeats."""

    median: float
    least: float
    most: float

    @staticmethod
    def of(values: Iterable[float]) -> Spread:
        found = list(values)
        return Spread(statistics.median(found), min(found), max(found))


def step_seconds(result: Result, clock: str, warmup: int) -> float:
    """Mean seconds of the measured steps."""
    return statistics.fmean(step[clock] for step in result["steps"][warmup:])


def epoch_seconds(result: Result, clock: str, warmup: int) -> float:
    """Seconds of a step and of its share of the reference pass."""
    reference = result["reference"]
    share = reference[clock] / len(result["steps"]) if reference else 0.0
    return step_seconds(result, clock, warmup) + share


def computed(result: Result) -> float:
    """Token positions in training forward passes per needed one, over all steps."""
    return sum(step["positions"] for step in result["steps"]) / sum(result["needed"])


def ratios(ours: Sequence[Result], theirs: Sequence[Result], measure: Any) -> Spread:
    """``measure`` of the peer over ours, repeat by repeat."""
    return Spread.of(measure(b) / measure(a) for a, b in zip(ours, theirs, strict=True))


def loss_difference(ours: Sequence[Result], theirs: Sequence[Result]) -> float:
    """Largest difference of the two losses of any step."""
    return max(
        abs(a["loss"] - b["loss"])
        for mine, other in zip(ours, theirs, strict=True)
        for a, b in zip(mine["steps"], other["steps"], strict=True)
    )


def mean_loss_difference(ours: Sequence[Result], theirs: Sequence[Result]) -> float:
    """Difference of the two losses, averaged over all steps: rounding averages out, another arithmetic does not."""
    pairs = zip(ours, theirs, strict=True)
    found = [
        a["loss"] - b["loss"] for mine, other in pairs for a, b in zip(mine["steps"], other["steps"], strict=True)
    ]
    return abs(statistics.fmean(found))


def logps_difference(ours: Sequence[Result], theirs: Sequence[Result], relative: float = 0.0) -> float | None:
    """Largest difference of the reference's log-probability of an answer, in nats, beyond that share of it.

    ``None`` where a contender does not compute them apart.
    """
    if any(each["reference_logps"] is None for each in (*ours, *theirs)):
        return None
    mine, other = (np.array([each["reference_logps"] for each in results]) for results in (ours, theirs))
    return float((np.abs(mine - other) - relative * np.abs(other)).max())


def slope(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Exponent p of values ~ sizes ** p by least squares of the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(np.maximum(values, 1e-6)), 1)[0])


def model_flops(result: Result, positions: float) -> float:
    """Floating-point operations that ``positions`` token positions cost a training step, without attention.

    Two for each weight and position in forward, two for the gradient with respect to the activations, two more for
    that of the weights where they are trained.
    """
    parameters = result["parameters"]
    whole = parameters["trained"] >= parameters["body"]
    return (6 if whole else 4) * parameters["body"] * positions
