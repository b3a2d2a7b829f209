"""How much of a text has been taken out, told from the policy's own hidden states (arXiv 2409.17791)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from rather.errors import UserError
from rather.objectives.outcome import Term
from rather.objectives.scores import Layout, Scores


class DegreeLoss(nn.Module):
    """Cross-entropy of a linear head that tells the level of each auxiliary response of role ``degree``.

    The head reads the mean over the response's tokens of the policy's last hidden states, those from which its tokens are
    predicted (our reading: so the first one has seen the prompt alone, and the end token's own is not computed). The
    gradient flows into the policy. Values are weighted by the responses' signs, and a mean over edges.

    The head starts at zero, so that the loss starts at log K and does not disturb the policy before it has learned.

    Args:
        coefficient: factor on the mean.
        levels: number of classes K.
        dropout: of the pooled state. It depends on how a step is split among processes; 0 does not.
    """

    wants = frozenset({"states"})

    def __init__(self, coefficient: float, levels: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.coefficient, self.levels = coefficient, levels
        self.dropout = nn.Dropout(dropout)
        self.head: nn.Linear | None = None

    def prepare(self, facts: Mapping[str, Any]) -> None:
        """Make the head for states of ``facts["width"]``."""
        self.head = nn.Linear(int(facts["width"]), self.levels)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def logits(self, policy: Scores, layout: Layout) -> Tensor:
        """[A, K] of the auxiliary responses of role ``degree``, in their order.

        Raises:
            UserError: the scores have no hidden states.
        """
        if self.head is None or "states" not in policy.extras:
            raise UserError("needs the hidden states of the model", where="degree", fix="train a language model")
        pooled = self.pooled(policy, layout.auxiliary.of_role("degree").response, layout.responses)
        return self.head(self.dropout(pooled.to(self.head.weight.dtype)))

    @staticmethod
    def pooled(policy: Scores, rows: Tensor, responses: int) -> Tensor:
        """[A, D] mean states of the responses ``rows`` [A], in float32 at least."""
        place = rows.new_full((responses,), -1)
        place[rows] = torch.arange(rows.numel(), device=rows.device)
        to = place[policy.response]
        states = policy.extras["states"][to >= 0]
        states = states.to(torch.promote_types(states.dtype, torch.float32))
        to = to[to >= 0]
        count = states.new_zeros(rows.numel()).index_add(0, to, states.new_ones(to.numel()))
        total = states.new_zeros(rows.numel(), states.shape[1]).index_add(0, to, states)
        return total / count.clamp(min=1)[:, None]

    def forward(self, policy: Scores, reference: Scores | None, layout: Layout) -> Term:
        found = layout.auxiliary.of_role("degree")
        logits = self.logits(policy, layout)
        losses = cross_entropy(logits, found.label, reduction="none")
        right = (logits.detach().argmax(-1) == found.label).to(losses)
        seen = {"loss": losses.detach(), "accuracy": right}
        return Term("degree", found.sign.to(losses) * losses, "edges", self.coefficient, seen)
