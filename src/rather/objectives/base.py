"""The protocol of an objective."""

from __future__ import annotations

from collections.abc import Mapping

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

    def forward(self, policy: Scores, reference: Scores | None, layout: Layout) -> Outcome:
        raise TypeError(f"{type(self).__name__} does not define forward")

    def advance(self, observations: Mapping[str, Tensor]) -> None:
        """Update moving parts, once per optimizer step, from the observations of the whole step over all ranks."""
