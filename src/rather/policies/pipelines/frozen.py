"""Weights that adapters leave as they are, kept in the form in which products want them."""

from __future__ import annotations

import torch
from torch import nn


def hold(network: nn.Module, dtype: torch.dtype) -> None:
    """Keep frozen weights of linear and convolutional layers in ``dtype``, in place; convolutions have channels last.

    Autocast would cast them in every pass, and keep the copies for the backward pass; the products are the same. The network
    is to be called under autocast from then on.
    """
    frozen = [layer for layer in network.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    for layer in frozen:
        for parameter in layer.parameters(recurse=False):
            if not parameter.requires_grad and parameter.is_floating_point():
                last = parameter.dim() == 4
                form = torch.channels_last if last else torch.contiguous_format
                parameter.data = parameter.data.to(dtype).contiguous(memory_format=form)
