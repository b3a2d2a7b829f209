"""Weights that adapters leave as they are, kept in the form in which products want them."""

from __future__ import annotations

import torch
from torch import nn


def hold(network: nn.Module, dtype: torch.dtype) -> None:
    """Keep frozen weights of linear and convolutional layers in ``dtype``, in place.

    Autocast would cast them in every pass, and keep the copies for the backward pass; the products are the same. The network
    is to be called under autocast from then on. Other frozen weights get memory of their own, so that the file that all came
    from need not stay mapped.
    """
    multiplied = {
        id(p) for m in network.modules() if isinstance(m, nn.Linear | nn.Conv2d) for p in m.parameters(False)
    }
    for parameter in network.parameters():
        if not parameter.requires_grad and parameter.is_floating_point():
            wanted = dtype if id(parameter) in multiplied else parameter.dtype
            parameter.data = parameter.data.to(wanted, copy=True)
