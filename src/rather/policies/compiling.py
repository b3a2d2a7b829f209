"""torch.compile, layer by layer: what lies between the matrix products becomes a few kernels.

Layers share one compiled graph, whatever the length of the row; attention stays as it is. The first step pays for the
compiler (tens of seconds), every later one runs faster.
"""

from __future__ import annotations

from typing import Any

import torch

from rather.policies.activations import decoder_layers

BACKEND: Any = "inductor"
"""Of ``torch.compile``, where none is given."""


def compile_layers(lm: Any, *, backend: Any = None) -> str | None:
    """Compile each decoder layer of a causal language model, in place.

    Args:
        backend: of ``torch.compile``.

    Returns:
        One sentence to warn with where nothing is compiled: no layers are found, or no compiler is there.
    """
    layers, backend = decoder_layers(lm), backend or BACKEND
    if not layers:
        return f"the layers of {type(lm).__name__} cannot be told apart; it runs without --compile"
    if trouble := _trouble(next(lm.parameters()).device, backend):
        return f"nothing can be compiled here ({trouble}); training runs without --compile"
    for layer in layers:
        layer.compile(backend=backend, dynamic=True)
    return None


def run_plain(lm: Any) -> None:
    """Undo ``compile_layers``."""
    for layer in decoder_layers(lm):
        layer._compiled_call_impl = None


def _trouble(device: torch.device, backend: Any) -> str | None:
    """What a trial gives rise to, with gradients as training has them; ``None`` where all is well."""
    try:
        trial = torch.compile(lambda x: (x * 2).exp(), backend=backend, dynamic=True)
        trial(torch.ones(4, device=device, requires_grad=True)).sum().backward()
    except Exception as error:  # whatever a missing or broken toolchain raises
        return (str(error).strip() or type(error).__name__).splitlines()[0]
    return None
