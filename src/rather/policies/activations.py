"""Looking into a transformer while it computes: hidden states behind each layer, and mean activations.

What is looked at is found by the structure of the model: a list of as many layers as its configuration says; in each an
attention and a feed-forward block, told by their names. Mean activations (the masks of MaPO, arXiv 2410.05102) are
hooked at

    resid  the embeddings, the output of each layer, and the last hidden state (after the final norm)
    attn   the outputs of the query, key and value projections (of the fused one, where they are one), and of the block
    mlp    the input of the block's last linear layer, which is the activation behind the nonlinearity (times the gate,
           where there is one); of a mixture of experts the block's output
    logits the mean logit

Queries and keys are taken before rotation; that of the paper's released code is also hooked after it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from rather.policies import shared

Kind = Literal["resid", "attn", "mlp", "logits"]

_ATTENTION = ("attn", "attention")
_FEED_FORWARD = ("mlp", "feed_forward", "ffn", "moe")


@dataclass(frozen=True)
class Point:
    """A place to look at: what goes into a module, or comes out of it."""

    kind: Kind
    module: nn.Module
    entering: bool = False


def decoder_layers(lm: Any) -> list[nn.Module]:
    """The transformer's layers, in order; empty where they cannot be told."""
    number = getattr(lm.config.get_text_config(), "num_hidden_layers", None)
    for module in shared.body_of(lm).modules():
        if isinstance(module, nn.ModuleList) and len(module) == number:
            return list(module)
    return []


def points(lm: Any) -> list[Point]:
    """Where mean activations are taken inside the body; the last hidden state and the logits come behind them."""
    layers = decoder_layers(lm)
    found = [Point("resid", layers[0], entering=True)] if layers else []
    for layer in layers:
        if attention := _child(layer, _ATTENTION):
            found += [Point("attn", module) for module in [*_linear(attention)[:-1], attention]]
        block = _child(layer, _FEED_FORWARD)
        experts = block is not None and _child(block, ("experts",)) is not None
        inner = [] if experts else _linear(block or layer)
        if inner:
            found.append(Point("mlp", inner[-1], entering=True))
        elif block is not None:
            found.append(Point("mlp", block))
        found.append(Point("resid", layer))
    return found


def kinds(lm: Any) -> tuple[Kind, ...]:
    """Kind of each column of the mean activations."""
    return (*(point.kind for point in points(lm)), "resid", "logits")


def _child(module: nn.Module, names: tuple[str, ...]) -> nn.Module | None:
    for name, child in module.named_children():
        if any(part in name for part in names) and "norm" not in name:
            return child
    return None


def _linear(module: nn.Module) -> list[nn.Module]:
    """Children that multiply by a matrix, in order; an adapter around one counts as it."""
    return [child for child in module.children() if _is_linear(child)]


def _is_linear(module: nn.Module) -> bool:
    weight = getattr(getattr(module, "base_layer", module), "weight", None)
    return isinstance(weight, Tensor) and weight.dim() == 2 and not isinstance(module, nn.Embedding)


@dataclass
class Recorder:
    """What hooks saw in one forward pass.

    Attributes:
        layers: [E, D] hidden state behind each layer, at the positions that predict the elements.
        means: [E] mean activation at each point, there.
    """

    layers: list[Tensor] = field(default_factory=list)
    means: list[Tensor] = field(default_factory=list)


@contextmanager
def recording(lm: Any, wants: frozenset[str], positions: Tensor) -> Iterator[Recorder]:
    """Hooks on ``lm`` for one forward pass, for what is wanted of ``layers`` and ``activations``.

    Args:
        positions: [E] flat index of the positions that are looked at.
    """
    recorder = Recorder()

    def at_positions(values: Any) -> Tensor:
        values = values[0] if isinstance(values, tuple) else values
        return values.flatten(0, -2).index_select(0, positions)

    with ExitStack() as hooks:
        if "layers" in wants:
            for layer in decoder_layers(lm):

                def keep(_module: nn.Module, _args: Any, output: Any) -> None:
                    recorder.layers.append(at_positions(output))

                hooks.callback(layer.register_forward_hook(keep).remove)
        if "activations" in wants:
            for point in points(lm):
                hooks.callback(_hook(point, lambda values: recorder.means.append(_mean(at_positions(values)))))
        yield recorder


def _hook(point: Point, take: Any) -> Any:
    """Register a hook that gives what passes the point to ``take``; returns what removes it."""
    if point.entering:

        def entering(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            take(args[0] if args else kwargs["hidden_states"])

        return point.module.register_forward_pre_hook(entering, with_kwargs=True).remove
    return point.module.register_forward_hook(lambda _module, _args, output: take(output)).remove


def _mean(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32)).mean(-1)
