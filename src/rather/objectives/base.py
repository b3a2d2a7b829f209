"""The protocol of an objective."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from rather.objectives.outcome import Outcome
from rather.objectives.scores import Layout, Scores


class Objective(nn.Module):
    """Scores in, ``Outcome`` out. Pure in its inputs: no file, no tokenizer, no trainer.

    Learned parts are parameters (trained beside the policy), moving parts are buffers: both are saved, resumed and
    distributed with the model.
    """

    needs_reference: bool = True
    couples_batch: bool = False
    """Whether the loss of one example depends on the others of its micro-batch (so on how a step is split)."""
    needs_lengths: bool = False
    """Whether the number of elements of a response enters the loss; summed scores alone will then not do."""
    wants: frozenset[str] = frozenset()
    """Extras that the policy's scores have to carry (``Scores.extras``); any part of an objective may have such a set."""
    reference_wants: frozenset[str] = frozenset()
    """Extras that the reference's scores have to carry, without gradient."""
    weigh: Callable[..., Any] | None = None
    """How the tokens of a response are weighted when data is encoded, see ``rather.objectives.token_weights.Weigh``."""
    noising: Any = None
    """How a denoising policy noises responses in training (``rather.policies.noising``); ``None`` for its own way."""
    rate_factor: float = 10.0
    """Learning rate of the objective's own parameters, in units of the model's."""
    weight_decay: float = 0.0
    """Weight decay of the objective's own matrices."""

    def forward(self, policy: Scores, reference: Scores | None, layout: Layout) -> Outcome:
        raise TypeError(f"{type(self).__name__} does not define forward")

    def prepare(self, facts: Mapping[str, Any]) -> None:
        """Make the parameters whose size depends on the model; called once, before an optimizer is built.

        Args:
            facts: what the policy says of its model (``Policy.facts``): ``width``, ``layers``, ...
        """
        for part in self.modules():
            make = getattr(part, "prepare", None)
            if part is not self and callable(make):
                make(facts)

    def plan(self, steps: int) -> None:
        """Told once, before the first step, how many optimizer steps the run has; any part may want to know."""
        for part in self.modules():
            told = getattr(part, "plan", None)
            if part is not self and not isinstance(part, Objective) and callable(told):
                told(steps)

    def advance(self, observations: Mapping[str, Tensor]) -> None:
        """Update moving parts, once per optimizer step, from the observations of the whole step over all ranks."""


def wanted(objective: nn.Module) -> tuple[frozenset[str], frozenset[str]]:
    """Extras that an objective and its parts want of the policy's scores, and of the reference's.

    A divergence from the reference needs the states that the reference predicts from.
    """
    own, of_reference = (
        frozenset().union(*(getattr(part, name, ()) for part in objective.modules()))
        for name in ("wants", "reference_wants")
    )
    return own, of_reference | (frozenset({"states"}) if "kl" in own else frozenset())
