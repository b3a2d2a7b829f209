"""Values of elements: what takes the place of the policy's element scores before they are reduced.

The log-ratio of an element is then its value: the scores are the reference's plus the value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor

from rather.objectives.outcome import Term
from rather.objectives.scores import Scores


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
