"""Floating-point operations of a causal language model: what any exact way has to multiply.

``2 P`` operations for ``P`` weights that a position is multiplied with in forward; in backward ``2 P`` for the gradient
of what goes in, where anything in front is trained, and ``2 P`` for that of weights that are trained. Of experts those
count that a position is sent to. Attention proper and norms, which have no matrices, are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from rather.policies.lora import REFERENCE
from rather.policies.scorer import LanguageScorer
from rather.policies.work import Work


@dataclass(frozen=True)
class Operations:
    """Operations for one position.

    Attributes:
        body, head: of a forward pass; the head's are for positions that predict a response token.
        body_back, head_back: of the backward pass.
    """

    body: float
    body_back: float
    head: float
    head_back: float

    @staticmethod
    def of(scorer: LanguageScorer) -> Operations:
        lm = scorer.causal_lm
        head = lm.get_output_embeddings()
        of_head = {id(parameter) for parameter in head.parameters()}
        tables = [module for module in lm.modules() if isinstance(module, nn.Embedding)]
        looked_up = {id(parameter) for table in tables for parameter in table.parameters()}
        body = [(n, p) for n, p in lm.named_parameters() if id(p) not in of_head | looked_up]
        share = _expert_share(lm.config.get_text_config())
        # In the order of the forward pass, which is that of definition.
        reached = any(parameter.requires_grad for table in tables for parameter in table.parameters())
        sums = []
        for parameters in (body, list(head.named_parameters())):
            forward = backward = 0.0
            for name, parameter in parameters:
                if parameter.dim() > 1 and not name.endswith("bias") and f".{REFERENCE}." not in name:
                    once = 2.0 * parameter.numel() * (share if ".experts." in name else 1.0)
                    forward += once
                    backward += once * (reached + parameter.requires_grad)
                reached = reached or parameter.requires_grad
            sums += [forward, backward]
        return Operations(*sums)

    def work(self, computed: int, needed: int, elements: int, dtype: torch.dtype) -> Work:
        """The work of a batch: ``needed`` positions, of which ``elements`` times a response token is predicted."""
        forward = self.body * needed + self.head * elements
        return Work(computed, needed, forward, self.body_back * needed + self.head_back * elements, dtype)


def _expert_share(config: Any) -> float:
    """Share of a layer's experts that a position is sent to."""
    chosen = getattr(config, "num_experts_per_tok", None)
    names = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
    every = next((value for name in names if (value := getattr(config, name, None))), None)
    return min(1.0, chosen / every) if chosen and every else 1.0
