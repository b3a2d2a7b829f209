"""The module that is trained: a causal language model whose forward pass returns log-probabilities of given tokens.

Wrappers (DDP, FSDP, compile) act through a module's forward, so scoring is this module's forward and nothing else.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from rather.policies import shared
from rather.policies.head import LogitForm, plain_token_logps, token_logps


class LanguageScorer(nn.Module):
    """Wraps a causal language model (or a ``PeftModel`` around one).

    Attributes:
        model: the causal language model; what is saved and sampled from.
        dtype: the autocast type; float32 computes in the weights' own type.
        entropy: also return the entropy of each predicted distribution.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype = torch.float32, *, entropy: bool = False) -> None:
        super().__init__()
        self.model = model
        self.dtype = dtype
        self.entropy = entropy

    @property
    def causal_lm(self) -> Any:
        """The transformers model itself, inside any adapter wrapper (whose layers it then contains)."""
        base = getattr(self.model, "get_base_model", None)
        return base() if base is not None else self.model

    def forward(
        self, *, form: str, input_ids: Tensor, positions: Tensor, targets: Tensor, **layout: Any
    ) -> tuple[Tensor, Tensor | None]:
        """Scores of response tokens.

        Args:
            form: how ``input_ids`` is laid out: ``padded`` and ``full`` have one sequence per row, padded on the
                right; ``shared`` has all comparisons in one row (see ``rather.policies.shared``).
            input_ids: [rows, L].
            positions: [E] flat index into rows x L of the position that predicts each element.
            targets: [E] token id of each element.
            layout: tensors and values of the shared form.

        Returns:
            [E] log-probabilities in float32, and [E] entropies (nats, detached) if asked for.
        """
        lm = self.causal_lm
        kind = input_ids.device.type
        with torch.autocast(kind, self.dtype, enabled=self.dtype != torch.float32):
            if form == "full":
                logits = lm(input_ids=input_ids, use_cache=False).logits.flatten(0, 1)[positions]
                return plain_token_logps(logits, nn.Identity(), targets, LogitForm()), None
            if form == "shared":
                states = shared.last_hidden_states(lm, input_ids, **layout)
            else:
                # No mask: behind the causal one, padding on the right is invisible to real tokens.
                states = shared.body_of(lm)(input_ids=input_ids, use_cache=False)[0]
            hidden = states.flatten(0, 1).index_select(0, positions)
            head = lm.get_output_embeddings()
            return token_logps(hidden, head, targets, LogitForm.of(lm.config.get_text_config()), entropy=self.entropy)


def unwrap(network: nn.Module) -> LanguageScorer:
    """The scorer inside wrappers that keep it as ``module`` (DDP) or ``_orig_mod`` (compile)."""
    while not isinstance(network, LanguageScorer):
        inner = getattr(network, "module", None) or getattr(network, "_orig_mod", None)
        if inner is None:
            raise TypeError(f"{type(network).__name__} is not a language policy's network")
        network = inner
    return network
