"""Masks: non-negative weights of tokens, from what the reference model computes there.

A mask depends on the prefix of a token, not on the token: it is made of the reference's states at the position that
predicts the token, without gradient into them. Learned masks are from SparsePO, masks of activations from MaPO (both
arXiv 2410.05102).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, layer_norm

from rather.objectives.scores import Layout, Scores

MaskInput = Literal["simple_all", "simple_last"]


class LearnedMask(nn.Module):
    """A mask that is trained with the policy; its zeros come from rectifiers alone, so it is never clamped.

        simple_all    a_l = relu(w_l . LN(h_l) + b_l) for each layer l,   m = relu(v . [a_1 ... a_N])
        simple_last   m = relu(w . h_N + b)

    One LayerNorm serves all layers; dropout follows each rectifier. ``w`` starts at 0 and ``b`` at ``bias``, ``v`` at
    1/N, so that every mask starts at ``bias`` and none is dead (our reading; the released code starts at random, where
    a unit that is negative everywhere stays so). Made by ``prepare``.

    Args:
        reads: ``simple_all`` or ``simple_last``.
        bias: where every mask starts.
        dropout: share of activations, and of masks, that are zeroed in training.
    """

    weight: nn.Parameter
    bias: nn.Parameter
    mix: nn.Parameter

    def __init__(self, reads: MaskInput, *, bias: float = 1.0, dropout: float = 0.0) -> None:
        super().__init__()
        self.reads: MaskInput = reads
        self.bias_start, self.dropout = bias, dropout
        self.norm: nn.LayerNorm | None = None
        self.reference_wants = frozenset({"layers" if reads == "simple_all" else "states"})

    def prepare(self, facts: Mapping[str, Any]) -> None:
        """Make the parameters for a model of ``facts["layers"]`` layers of ``facts["width"]``."""
        layers, width = (int(facts["layers"]) if self.reads == "simple_all" else 1), int(facts["width"])
        self.weight = nn.Parameter(torch.zeros(layers, width))
        self.bias = nn.Parameter(torch.full((layers,), self.bias_start))
        if self.reads == "simple_all":
            self.norm = nn.LayerNorm(width)
            self.mix = nn.Parameter(torch.full((layers,), 1 / layers))

    def forward(self, reference: Scores, layout: Layout) -> Tensor:
        """[E] masks, with gradient to the parameters."""
        if self.norm is None:
            states = reference.extras["states"].detach().to(self.weight)
            return self._dropped(torch.relu(states @ self.weight[0] + self.bias[0]))
        # w . LN(h) = (w * scale) . z + w . shift, with z standardised once and without gradient.
        z = layer_norm(
            reference.extras["layers"].detach().to(self.weight), self.norm.normalized_shape, eps=self.norm.eps
        )
        shift = (self.weight * self.norm.bias).sum(1) + self.bias
        layers = torch.einsum("end,nd->en", z, self.weight * self.norm.weight) + shift
        return self._dropped(torch.relu(self._dropped(torch.relu(layers)) @ self.mix))

    def _dropped(self, values: Tensor) -> Tensor:
        return dropout(values, self.dropout, self.training)


class ActivationMask(nn.Module):
    """The mask of mean activations (MaPO): each hook's means, from 0 to 1 over the response; averaged within each kind
    of hook, then over the kinds. Nothing is learned.

    The paper's code standardises before it rescales to [0, 1]; that changes nothing and is left out. A hook that is
    constant over a response (or sees one token) has mask 1 there.
    """

    reference_wants = frozenset({"activations"})

    def __init__(self) -> None:
        super().__init__()
        self.kinds: tuple[str, ...] = ()

    def prepare(self, facts: Mapping[str, Any]) -> None:
        self.kinds = tuple(facts["activations"])

    def forward(self, reference: Scores, layout: Layout) -> Tensor:
        """[E] masks, without gradient."""
        values = reference.extras["activations"].detach()
        rescaled = min_max(values, reference.response, layout.responses)
        columns = {
            kind: [i for i, each in enumerate(self.kinds) if each == kind] for kind in dict.fromkeys(self.kinds)
        }
        return torch.stack([rescaled[:, where].mean(1) for where in columns.values()]).mean(0)


def min_max(values: Tensor, index: Tensor, size: int) -> Tensor:
    """[E, H] values, each column rescaled to [0, 1] over the rows of equal ``index`` [E]; 1 where it is constant."""
    where = index[:, None].expand_as(values)
    low, high = (
        values.new_zeros(size, values.shape[1]).scatter_reduce(0, where, values, how, include_self=False)[index]
        for how in ("amin", "amax")
    )
    spread = high - low
    return torch.where(spread > 0, (values - low) / torch.where(spread > 0, spread, 1.0), 1.0)
