"""The network of a reward model: a transformer, one state of it for each response, and linear heads on that state."""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn.functional import normalize

from rather.policies import shared
from rather.policies.scorer import LanguageScorer
from rather.worlds.query import QueryOptions

Pooling = Literal["last", "mean", "cls"]


class HeadOptions(QueryOptions):
    """What stands on the transformer; keys of the query in ``reward:MODEL?head=gpm&dim=8``."""

    head: Literal["bt", "gpm"] = Field("bt", description="bt: a reward; gpm: an embedding for skew-symmetric scores")
    dim: int = Field(8, ge=2, description="gpm: dimension of the embedding, two for each plane")
    gate: Literal["none", "softmax", "softmax_mean1"] = Field(
        "softmax", description="gpm: weights of the planes by the prompt, adding up to 1 (softmax) or averaging 1"
    )
    l2: Literal["auto", "on", "off"] = Field(
        "auto", description="gpm: embeddings of unit length; auto: with a gate, where it keeps scores bounded"
    )
    pooling: Literal["auto", "last", "mean", "cls"] = Field(
        "auto", description="the state that stands for a text: last token (causal models), mean or first (encoders)"
    )
    seed: int = Field(0, ge=0, description="of the fresh heads")

    @field_validator("dim")
    @classmethod
    def _even(cls, value: int) -> int:
        if value % 2:
            raise ValueError("a plane has two dimensions: give an even number")
        return value

    @property
    def gated(self) -> bool:
        return self.head == "gpm" and self.gate != "none"

    @property
    def unit_length(self) -> bool:
        return self.head == "gpm" and (self.l2 == "on" or (self.l2 == "auto" and self.gated))


class RewardNetwork(nn.Module):
    """Wraps a transformer; its forward pass returns rewards, or embeddings with the weights of their planes.

    Both heads are linear without bias and start from N(0, 1 / (width + 1)^2), as in the released code of
    arXiv 2410.02197. They compute in float32.

    Args:
        scorer: around a causal language model or an encoder (or a ``PeftModel`` around one): holds it, with its type.
        options: the heads.
        pooling: resolved.
    """

    def __init__(self, scorer: LanguageScorer, options: HeadOptions, pooling: Pooling) -> None:
        super().__init__()
        self.scorer = scorer
        self.options, self.pooling = options, pooling
        width = int(scorer.causal_lm.config.get_text_config().hidden_size)
        device = next(scorer.parameters()).device
        generator = torch.Generator().manual_seed(options.seed)

        def head(outputs: int) -> nn.Linear:
            made = nn.Linear(width, outputs, bias=False)
            nn.init.normal_(made.weight, std=1 / (width + 1), generator=generator)
            return made.to(device)

        self.head = head(1 if options.head == "bt" else options.dim)
        self.gate = head(options.dim // 2) if options.gated else None

    def forward(
        self, *, form: str, input_ids: Tensor, ends: Tensor, starts: Tensor, mask: Tensor | None = None, **layout: Any
    ) -> tuple[Tensor, Tensor | None]:
        """Values of R responses.

        Args:
            form: ``shared`` or ``padded`` (see ``rather.policies.forms``) for causal models, where ``ends`` and
                ``starts`` [R] are flat indices of the response's and the prompt's last token; ``encoder``: a row for
                each response, then one for each prompt where there is a gate, with ``ends`` and ``starts`` [R] the
                rows of response and prompt.
            input_ids: [rows, L].
            mask: [rows, L], true on tokens; of the encoder form.
            layout: tensors and values of the shared form.

        Returns:
            [R, 1] rewards or [R, dim] embeddings, and [R, dim / 2] weights of the planes where there is a gate.
        """
        body, dtype = self.scorer.causal_lm, self.scorer.dtype
        with torch.autocast(input_ids.device.type, dtype, enabled=dtype != torch.float32):
            if form == "encoder":
                states = self._pooled(body(input_ids=input_ids, attention_mask=mask)[0], mask)
            elif form == "shared":
                states = shared.last_hidden_states(body, input_ids, **layout).flatten(0, 1)
            else:
                # No mask: behind the causal one, padding on the right is invisible to real tokens.
                states = shared.body_of(body)(input_ids=input_ids, use_cache=False)[0].flatten(0, 1)
        values = self.head(_wide(states.index_select(0, ends)))
        if self.options.unit_length:
            values = normalize(values, dim=-1)
        return values, self._weights(states, starts)

    def _weights(self, states: Tensor, starts: Tensor) -> Tensor | None:
        if self.gate is None:
            return None
        logits = self.gate(_wide(states.index_select(0, starts)))
        if self.options.gate == "softmax":
            return logits.softmax(-1)
        return logits.shape[-1] * (logits / self.gate.in_features**0.5).softmax(-1)

    def _pooled(self, states: Tensor, mask: Tensor | None) -> Tensor:
        """[rows, D] from [rows, L, D]."""
        if mask is None:
            raise ValueError("an encoder's rows need a mask")
        if self.pooling == "cls":
            return states[:, 0]
        if self.pooling == "last":
            last = mask.long().sum(1) - 1
            return states[torch.arange(len(states), device=states.device), last]
        kept = mask.unsqueeze(-1).to(states.dtype)
        return (states * kept).sum(1) / kept.sum(1)


def _wide(states: Tensor) -> Tensor:
    return states if states.dtype == torch.float64 else states.float()


def unwrap(network: nn.Module) -> RewardNetwork:
    """The reward network inside wrappers that keep it as ``module`` (DDP) or ``_orig_mod`` (compile)."""
    while not isinstance(network, RewardNetwork):
        inner = getattr(network, "module", None) or getattr(network, "_orig_mod", None)
        if inner is None:
            raise TypeError(f"{type(network).__name__} is not a reward model's network")
        network = inner
    return network
