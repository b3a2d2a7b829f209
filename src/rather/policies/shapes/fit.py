"""Training from scratch that can be killed: weights, their averages and the optimizer's state are kept on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from rather.data.parts import write_whole

AVERAGE = 0.995
_KEPT = 100  # steps between files that an interrupted training goes on from

Progress = Callable[[int, float], None]
"""Told the number of steps done and the loss."""


def fit(
    parts: Mapping[str, nn.Module],
    loss: Callable[[int], Tensor],
    steps: int,
    rate: float,
    seed: int,
    kept: Path | None = None,
    progress: Progress | None = None,
) -> None:
    """AdamW on all weights of ``parts``; what is left in them are averages of the weights.

    The global random state is left alone, and inside of ``loss`` is a function of seed and step: a training that goes on
    ends where it would have ended.

    Args:
        loss: of a step, counted from 0.
        rate: the highest learning rate; a twentieth of the way up to it, then down along a cosine.
        kept: file that it goes on from where there is one, and that is written every 100 steps.
    """
    for part in parts.values():
        part.train().requires_grad_(True)
    weights = {f"{name}/{key}": weight for name, part in parts.items() for key, weight in part.named_parameters()}
    averages = {name: weight.detach().clone() for name, weight in weights.items()}
    optimizer = torch.optim.AdamW(list(weights.values()), lr=rate, weight_decay=0.01, fused=True)
    done = _read(kept, weights, averages, optimizer) if kept else 0
    with torch.random.fork_rng():
        for step in range(done, steps):
            torch.manual_seed((seed << 32) + step)
            found = loss(step)
            optimizer.zero_grad(set_to_none=True)
            found.backward()
            nn.utils.clip_grad_norm_(weights.values(), 1.0)
            for group in optimizer.param_groups:
                group["lr"] = rate * _shape((step + 1) / (steps + 1))
            optimizer.step()
            share = 1 - min(AVERAGE, step / (step + 10))
            torch._foreach_lerp_(list(averages.values()), [weight.detach() for weight in weights.values()], share)
            if kept and (step + 1) % _KEPT == 0:
                _write(kept, weights, averages, optimizer, step + 1)
            if progress is not None:
                progress(step + 1, found.item())
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(averages[name])
    for part in parts.values():
        part.eval().requires_grad_(False)


def _shape(done: float) -> float:
    return done / 0.05 if done < 0.05 else 0.5 * (1 + float(np.cos(np.pi * (done - 0.05) / 0.95)))


def _write(
    path: Path,
    weights: Mapping[str, Tensor],
    averages: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    done: int,
) -> None:
    from safetensors.torch import save

    tensors = {f"weight/{name}": weight.detach() for name, weight in weights.items()}
    tensors |= {f"average/{name}": average for name, average in averages.items()}
    for name, weight in weights.items():
        tensors |= {f"{key}/{name}": value for key, value in optimizer.state[weight].items()}
    held = {name: x.cpu().contiguous() for name, x in tensors.items()}
    write_whole(path, save(held, metadata={"done": str(done)}))


def _read(
    path: Path, weights: Mapping[str, Tensor], averages: Mapping[str, Tensor], optimizer: torch.optim.Optimizer
) -> int:
    """Fill weights, averages and optimizer; returns the steps that are done, 0 where there is nothing to go on from."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), "pt") as found, torch.no_grad():
            done = int(found.metadata()["done"])
            for name, weight in weights.items():
                weight.copy_(found.get_tensor(f"weight/{name}"))
                averages[name].copy_(found.get_tensor(f"average/{name}"))
                optimizer.state[weight] = {
                    key: found.get_tensor(f"{key}/{name}").to(weight.device)
                    for key in ("step", "exp_avg", "exp_avg_sq")
                }
    except (OSError, SafetensorError, KeyError):
        return 0
    return done
