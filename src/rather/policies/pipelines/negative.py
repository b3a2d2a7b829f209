"""A pipeline's own sampler with a second network for what it guides away from: Diffusion-NPO (arXiv 2505.11245), Self-NPO
(2505.11777).

    guided = negative + g (own - negative),   g = 1 + omega the guidance scale; ``own`` sees the caption, ``negative`` none

Pipelines call their denoiser for both, with the two halves of one batch or one after the other. What stands in the
denoiser's place here gives the part without a caption to the negative network, and whatever sampler, schedule or rescaling
the pipeline has goes on as before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class WithNegative(nn.Module):
    """Stands in for the denoiser of a pipeline that guides.

    Args:
        network: predicts with the caption.
        negative: predicts without; of the same architecture.
        images: that one call of the pipeline makes. It either puts twice as many into a batch, those without captions
            first, or calls twice and says which is which by ``cache_context``.

    Attributes:
        used: whether the pipeline has asked for anything without a caption, which it does where it guides.
    """

    def __init__(self, network: nn.Module, negative: nn.Module, images: int) -> None:
        super().__init__()
        self.network, self.negative, self.images, self.used = network, negative, images, False
        self._present = ""

    def __getattr__(self, name: str) -> Any:
        """What a pipeline asks of its denoiser besides: ``config``, ``dtype`` and the like."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("network"), name)

    @contextmanager
    def cache_context(self, name: str) -> Iterator[None]:
        self._present = name
        try:
            yield
        finally:
            self._present = ""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        rows = next(value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)).shape[0]
        both, bare = rows == 2 * self.images, self._present == "uncond"
        self.used |= both or bare
        if not both:
            return (self.negative if bare else self.network)(*args, **kwargs)
        found = [
            network(
                *(_part(value, rows, half) for value in args),
                **{name: _part(value, rows, half) for name, value in kwargs.items()},
            )[0]
            for network, half in ((self.negative, slice(rows // 2)), (self.network, slice(rows // 2, rows)))
        ]
        return (torch.cat(found),)


def _part(value: Any, rows: int, half: slice) -> Any:
    """Of what has one row for each of the batch; the rest, a time for all of them for one, as it is."""
    if isinstance(value, Tensor):
        return value[half] if value.dim() and value.shape[0] == rows else value
    if isinstance(value, Mapping):
        return {name: _part(one, rows, half) for name, one in value.items()}
    return value
