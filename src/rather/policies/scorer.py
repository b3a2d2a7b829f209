"""The module that is trained: a causal language model whose forward pass returns log-probabilities of given tokens.

Wrappers (DDP, FSDP, compile) act through a module's forward, so scoring is this module's forward and nothing else.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from rather.policies import activations, shared
from rather.policies.head import LogitForm, plain_token_logps, token_logps
from rather.policies.scored import Head, extras_of


class LanguageScorer(nn.Module):
    """Wraps a causal language model (or a ``PeftModel`` around one).

    Attributes:
        model: the causal language model; what is saved and sampled from.
        dtype: the autocast type; float32 computes in the weights' own type.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.model = model
        self.dtype = dtype

    @property
    def causal_lm(self) -> Any:
        """The transformers model itself, inside any adapter wrapper (whose layers it then contains)."""
        base = getattr(self.model, "get_base_model", None)
        return base() if base is not None else self.model

    @property
    def form(self) -> LogitForm:
        return LogitForm.of(self.causal_lm.config.get_text_config())

    @torch.no_grad()
    def logits(self, states: Tensor) -> Tensor:
        """[n, V] logits of last hidden states [n, D], without gradient."""
        with torch.autocast(states.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return self.form(self.causal_lm.get_output_embeddings()(states))

    def forward(
        self,
        *,
        form: str,
        input_ids: Tensor,
        positions: Tensor,
        targets: Tensor,
        wants: frozenset[str] = frozenset(),
        reference: tuple[Tensor, Head] | None = None,
        **layout: Any,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Scores of response tokens.

        Args:
            form: how ``input_ids`` is laid out: ``padded`` and ``full`` have one sequence per row, padded on the
                right; ``shared`` has all comparisons in one row (see ``rather.policies.shared``).
            input_ids: [rows, L].
            positions: [E] flat index into rows x L of the position that predicts each element.
            targets: [E] token id of each element.
            wants: extras to return beside (``rather.policies.scored``); the full form has none.
            reference: [E, D'] states of the reference and its head, for a divergence from it.
            layout: tensors and values of the shared form.

        Returns:
            [E] log-probabilities in float32, and the extras that were asked for.
        """
        lm = self.causal_lm
        kind = input_ids.device.type
        with torch.autocast(kind, self.dtype, enabled=self.dtype != torch.float32):
            if form == "full":
                logits = lm(input_ids=input_ids, use_cache=False).logits.flatten(0, 1)[positions]
                return plain_token_logps(logits, nn.Identity(), targets, LogitForm()), {}
            with activations.recording(lm, wants, positions) as seen:
                if form == "shared":
                    states = shared.last_hidden_states(lm, input_ids, **layout)
                else:
                    # No mask: behind the causal one, padding on the right is invisible to real tokens.
                    states = shared.body_of(lm)(input_ids=input_ids, use_cache=False)[0]
            hidden = states.flatten(0, 1).index_select(0, positions)
            head = lm.get_output_embeddings()
            logps, entropy = token_logps(hidden, head, targets, self.form, entropy="entropy" in wants)
            extras = {} if entropy is None else {"entropy": entropy}
            return logps, extras | extras_of(wants, hidden, head, self.form, seen, reference)


def unwrap(network: nn.Module) -> LanguageScorer:
    """The scorer inside wrappers that keep it as ``module`` (DDP) or ``_orig_mod`` (compile)."""
    while not isinstance(network, LanguageScorer):
        inner = getattr(network, "module", None) or getattr(network, "_orig_mod", None)
        if inner is None:
            raise TypeError(f"{type(network).__name__} is not a language policy's network")
        network = inner
    return network
