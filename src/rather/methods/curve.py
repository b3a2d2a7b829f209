"""What a method does to one pair as its margin grows, computed from the objective itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import torch

from rather.methods.base import Method
from rather.objectives.base import Objective, wanted
from rather.objectives.embedding import OnePlane
from rather.objectives.scores import Layout, Scores

FAR = (50.0, 500.0)
"""Margins at which the behaviour far out is read off."""


PAIRED = frozenset(
    {"pairs", "lists", "marks", "targets", "reference", "likelihood", "tokens", "reward", "scores", "auxiliary"}
)
"""Needs that the scores of one pair satisfy (its ratings being 1/4 and 0; terms over further responses are left out)."""


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

    The better end has log-probability -1 and the other lies below it. A reference gives both the mean of the two, so
    that the rewards are z/2 and -z/2. Where responses have ratings, the chosen one's is 1/4 higher; where they have
    embeddings, these are of one plane, v = (reward, 1).
    """
    options = dict(options or {})
    beta = float(getattr(method.configure(options), "beta", 1.0))
    objective = method.objective(**options)
    if "embedding" in method.needs:
        objective = OnePlane(objective)
    return [_point(objective, float(z), beta) for z in margins]


def _point(objective: Objective, z: float, beta: float) -> Point:
    ends = (min(z, 0.0) - beta, min(-z, 0.0) - beta)
    elements = torch.tensor(ends, dtype=torch.float64).div(beta).requires_grad_()
    response = torch.arange(2)
    layout = replace(
        Layout.of_pairs(torch.ones(1, dtype=torch.long), torch.ones(1, dtype=torch.long)),
        value=torch.tensor([0.25, 0.0]),
    )
    reference = Scores(elements.detach().mean().expand(2), response) if objective.needs_reference else None
    loss = objective(Scores(elements, response), reference, layout).loss(layout.counts())
    win, lose = (torch.autograd.grad(loss, elements)[0] / beta).tolist()
    return Point(z, loss.item(), 0.0 - win, 0.0 + lose)


def undrawn(method: Method, options: Mapping[str, Any] | None = None) -> str | None:
    """Why a method has no curve, or ``None``: its loss needs more than the scores of a pair."""
    beside = method.needs - PAIRED - {"embedding"}
    if beside:
        return f"it needs {', '.join(sorted(beside))}"
    wants = wanted(method.objective(**dict(options or {})))[0]
    return f"it looks at the model's {', '.join(sorted(wants))}" if wants else None


@dataclass(frozen=True)
class Shape:
    """How the loss of a pair goes with its margin.

    Attributes:
        left, right: how it goes on for wrongly ordered (z to -inf) and well separated pairs.
        near: pushes at z = -5, 0 and 5.
        turns: margins between -10 and 10 at which the push changes sign, each with whether the pair is pulled back
            beyond it.
    """

    left: Tail
    right: Tail
    near: tuple[Point, Point, Point]
    turns: tuple[tuple[float, bool], ...]

    @property
    def monotone(self) -> bool:
        return not self.turns and self.left.far >= 0 and self.right.far >= 0

    def sentence(self) -> str:
        """One line: monotone or not, and both tails."""
        way = "falls as the margin grows" if self.monotone else "does not fall all the way"
        return f"the loss {way}: {self.left.word} for wrongly ordered pairs, {self.right.word} for well separated ones"


@dataclass(frozen=True)
class Tail:
    """The push at a far margin and at one ten times as far, in the unit of the largest push near zero."""

    near: float
    far: float
    scale: float

    @property
    def kind(self) -> Literal["flat", "linear", "growing", "fading"]:
        if abs(self.far) < 1e-6 * self.scale:
            return "flat"
        if math.isclose(self.near, self.far, rel_tol=0.02):
            return "linear"
        return "growing" if abs(self.far) > 2 * abs(self.near) else "fading"

    @property
    def word(self) -> str:
        words = {
            "flat": "saturating",
            "linear": "linear",
            "growing": "faster than linear",
            "fading": "slowly levelling",
        }
        return words[self.kind]

    def sentence(self) -> str:
        if self.kind == "flat":
            return "no push"
        if self.kind == "linear":
            return f"a constant push of {self.far:.4g}"
        if self.kind == "growing":
            return f"a push {'outward' if self.far > 0 else 'back'} that grows with the distance"
        return f"a push that fades ({self.near:.3g} at {FAR[0]:g}, {self.far:.3g} at {FAR[1]:g})"


def shape(method: Method, options: Mapping[str, Any] | None = None) -> Shape:
    """The shape of a method's loss, computed from the objective."""
    near, far = FAR
    outer = curve(method, [-far, -near, near, far], options)
    middle = curve(method, [step / 4 for step in range(-40, 41)], options)
    scale = max(abs(point.push) for point in middle)
    at = {point.margin: point for point in middle}
    turns = [
        (_turn(method, options, before, after), after.push < 0)
        for before, after in pairwise([point for point in middle if point.push])
        if before.push * after.push < 0
    ]
    tails = Tail(outer[1].push, outer[0].push, scale), Tail(outer[2].push, outer[3].push, scale)
    return Shape(*tails, (at[-5.0], at[0.0], at[5.0]), tuple(turns))


def _turn(method: Method, options: Mapping[str, Any] | None, before: Point, after: Point) -> float:
    """The margin between two points at which the push changes sign."""
    while after.margin - before.margin > 1e-3:
        (middle,) = curve(method, [(before.margin + after.margin) / 2], options)
        if middle.push == 0:
            return middle.margin
        before, after = (middle, after) if middle.push * before.push > 0 else (before, middle)
    return (before.margin + after.margin) / 2


def behaviour(method: Method, options: Mapping[str, Any] | None = None) -> list[str]:
    """Sentences on the push on the margin: its shape, far out on either side, and where it changes sign."""
    found = shape(method, options)
    left, zero, right = found.near
    return [
        found.sentence(),
        f"push on the margin at z = -5, 0, 5: {left.push:.4g}, {zero.push:.4g}, {right.push:.4g}",
        f"wrongly ordered pairs (z to -inf): {found.left.sentence()}",
        f"undecided pairs (z = 0): a push of {zero.push:.4g} on the margin, "
        f"{zero.chosen:.4g} up on the chosen and {zero.rejected:.4g} down on the rejected end",
        f"well separated pairs (z to +inf): {found.right.sentence()}",
        *(
            f"the push changes sign near z = {z:.3g}: beyond, {'pulled back' if back else 'pushed on'}"
            for z, back in found.turns
        ),
    ]
