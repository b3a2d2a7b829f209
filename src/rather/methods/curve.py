"""What a method does to one pair as its margin grows, computed from the objective itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch

from rather.methods.base import Method
from rather.objectives.base import Objective
from rather.objectives.scores import Layout, Scores

FAR = (50.0, 500.0)
"""Margins at which the behaviour far out is read off."""


@dataclass(frozen=True)
class Point:
    """One pair under a method.

    Attributes:
        margin: scaled margin z of the pair, before any offset.
        loss: its loss.
        chosen, rejected: how hard the chosen reward is pushed up and the rejected one down: minus and plus the
            gradient of the loss on the scaled reward. Both sigma(-z) for DPO.
    """

    margin: float
    loss: float
    chosen: float
    rejected: float

    @property
    def push(self) -> float:
        """The push on the margin: the mean of both ends."""
        return (self.chosen + self.rejected) / 2


def curve(method: Method, margins: Sequence[float], options: Mapping[str, Any] | None = None) -> list[Point]:
    """Points at scaled margins ``margins``, one pair of one-token responses at a time, in float64.

    With a reference both ends lie symmetrically about it (rewards z/2 and -z/2). Without one the better end has
    log-probability -1 and the other lies below it.
    """
    options = dict(options or {})
    beta = float(getattr(method.configure(options), "beta", 1.0))
    objective = method.objective(**options)
    return [_point(objective, float(z), beta) for z in margins]


def _point(objective: Objective, z: float, beta: float) -> Point:
    ends = (z / 2, -z / 2) if objective.needs_reference else (min(z, 0.0) - beta, min(-z, 0.0) - beta)
    elements = torch.tensor(ends, dtype=torch.float64).div(beta).requires_grad_()
    response = torch.arange(2)
    layout = Layout.of_pairs(torch.ones(1, dtype=torch.long), torch.ones(1, dtype=torch.long))
    reference = Scores(torch.zeros(2, dtype=torch.float64), response) if objective.needs_reference else None
    loss = objective(Scores(elements, response), reference, layout).loss(layout.counts())
    win, lose = (torch.autograd.grad(loss, elements)[0] / beta).tolist()
    return Point(z, loss.item(), 0.0 - win, 0.0 + lose)


def behaviour(method: Method, options: Mapping[str, Any] | None = None) -> list[str]:
    """Sentences on the push on the margin: far out on either side, and where it changes sign."""
    near, far = FAR
    wrong = curve(method, [-far, -near], options)
    right = curve(method, [near, far], options)
    middle = curve(method, [step / 20 for step in range(-200, 201)], options)
    scale = max(abs(point.push) for point in middle)
    lines = [
        f"wrongly ordered pairs (z to -inf): {_tail(wrong[1].push, wrong[0].push, scale)}",
        f"undecided pairs (z = 0): a push of {_at_zero(middle).push:.4g} on the margin, "
        f"{_at_zero(middle).chosen:.4g} up on the chosen and {_at_zero(middle).rejected:.4g} down on the rejected end",
        f"well separated pairs (z to +inf): {_tail(right[0].push, right[1].push, scale)}",
    ]
    for before, after in pairwise([point for point in middle if point.push]):
        if before.push * after.push < 0:
            then = "pulled back" if after.push < 0 else "pushed on"
            share = before.push / (before.push - after.push)
            z = before.margin + share * (after.margin - before.margin)
            lines.append(f"the push changes sign near z = {z:.3g}: beyond, {then}")
    return lines


def _at_zero(points: Sequence[Point]) -> Point:
    return min(points, key=lambda point: abs(point.margin))


def _tail(near: float, far: float, scale: float) -> str:
    """How the push goes on from a near margin to one ten times as far."""
    if abs(far) < 1e-6 * scale:
        return "no push"
    if math.isclose(near, far, rel_tol=0.02):
        return f"a constant push of {far:.4g}"
    if abs(far) > 2 * abs(near):
        direction = "outward" if far > 0 else "back"
        return f"a push {direction} that grows with the distance"
    return f"a push that fades ({near:.3g} at {FAR[0]:g}, {far:.3g} at {FAR[1]:g})"
