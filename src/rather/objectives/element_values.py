"""Values of elements: what takes the place of the policy's element scores before they are reduced.

The log-ratio of an element is then its value: the scores are the reference's plus the value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor, nn

from rather.objectives.outcome import Term
from rather.objectives.scores import Layout, Scores


@dataclass(frozen=True)
class Valued:
    """Element scores, and what comes with them.

    Attributes:
        policy: in the place of the policy's.
        terms: further terms of the loss.
        metrics: [N] numbers by name whose means are logged; detached.
    """

    policy: Scores
    terms: tuple[Term, ...] = ()
    metrics: Mapping[str, Tensor] = field(default_factory=dict)


def with_log_ratio(policy: Scores, reference: Scores, value: Tensor) -> Scores:
    """Scores whose log-ratio to the reference is ``value`` [E]."""
    return replace(policy, elements=reference.elements.detach().to(value) + value)


class PseudoHuber(nn.Module):
    """-(sqrt(d^2 + c^2) - c) in the place of a score -d^2 / 2: quadratic, d^2 / (2 c), for errors d much below c, and
    linear, |d|, above (as Self-NPO is released, arXiv 2505.11777). Scores above 0, which are no errors, count as 0.
    """

    def __init__(self, c: float) -> None:
        super().__init__()
        self.c = c

    def forward(self, policy: Scores, reference: Scores | None, layout: Layout) -> Valued:
        square = (-2 * policy.elements).clamp(min=0)
        # d^2 / (sqrt(d^2 + c^2) + c) is the same without the cancellation for small errors.
        return Valued(replace(policy, elements=-square / ((square + self.c**2).sqrt() + self.c)))
