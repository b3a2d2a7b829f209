"""Training of the base models of shapes: denoiser and text encoders together, from scratch, on sloppy captions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rather.data.parts import write_whole
from rather.policies.pipelines.architectures import ARCHITECTURES, text_encoders
from rather.policies.pipelines.noise import schedule_of
from rather.worlds.shapes.sloppy import captioned

BATCH, RATE, AVERAGE, DROPPED = 32, 1e-3, 0.995, 0.1
_KEPT = 100  # steps between files that an interrupted training goes on from


def pretrain(
    pipeline: Any,
    steps: int,
    seed: int,
    kept: Path | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> None:
    """Train in place; what is left are averages of the weights. Global random state is left alone.

    Pictures and noise of a step are a function of seed and step, so a training that goes on ends where it would have ended.

    Args:
        steps: of 32 pictures.
        kept: file that it goes on from where there is one, and that is written every 100 steps.
        progress: called with the number of steps done and the loss.
    """
    kind = type(pipeline).__name__
    architecture, schedule = ARCHITECTURES[kind](), schedule_of(pipeline, kind, "toy:shapes")
    denoiser = getattr(pipeline, architecture.component)
    parts = {**text_encoders(pipeline), architecture.component: denoiser}
    device = (torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None) or "cpu"
    for part in parts.values():
        part.to(device).train().requires_grad_(True)
    weights = {f"{name}/{key}": weight for name, part in parts.items() for key, weight in part.named_parameters()}
    averages = {name: weight.detach().clone() for name, weight in weights.items()}
    optimizer = torch.optim.AdamW(list(weights.values()), lr=RATE, weight_decay=0.01, fused=True)
    done = _read(kept, weights, averages, optimizer) if kept else 0
    with torch.random.fork_rng():
        for step in range(done, steps):
            torch.manual_seed((seed << 32) + step)
            captions, pixels = zip(*islice(captioned(seed, step), BATCH), strict=True)
            told = [caption if torch.rand(()) >= DROPPED else "" for caption in captions]
            loss = _loss(pipeline, architecture, schedule, denoiser, told, np.stack(pixels), torch.device(device))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(weights.values(), 1.0)
            for group in optimizer.param_groups:
                group["lr"] = RATE * _shape((step + 1) / (steps + 1))
            optimizer.step()
            share = 1 - min(AVERAGE, step / (step + 10))
            torch._foreach_lerp_(list(averages.values()), [weight.detach() for weight in weights.values()], share)
            if kept and (step + 1) % _KEPT == 0:
                _write(kept, weights, averages, optimizer, step + 1)
            if progress is not None:
                progress(step + 1, loss.item())
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(averages[name])
    for part in parts.values():
        part.cpu().eval().requires_grad_(False)


def _shape(done: float) -> float:
    """Share of the highest learning rate: a twentieth of the way up, then down along a cosine."""
    return done / 0.05 if done < 0.05 else 0.5 * (1 + float(np.cos(np.pi * (done - 0.05) / 0.95)))


def _loss(
    pipeline: Any,
    architecture: Any,
    schedule: Any,
    denoiser: nn.Module,
    captions: list[str],
    pixels: np.ndarray,
    device: torch.device,
) -> Tensor:
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1
    clean = pipeline.vae.encode(images).latent_dist.mean
    noise = torch.randn_like(clean)
    # All timesteps alike, but for a flow more of those in the middle: logit-normal, arXiv 2403.03206 section 3.1.
    share = torch.randn(len(clean)).sigmoid() if schedule.prediction == "flow" else torch.rand(len(clean))
    timestep = (share * schedule.steps).long().clamp(max=schedule.steps - 1)
    noisy, target = schedule.noised(clean, noise, timestep), schedule.target(clean, noise, timestep)
    texts = architecture.texts(pipeline, captions, device)
    predicted = architecture.predict(denoiser, noisy.to(device), timestep.to(device), texts, schedule)
    return nn.functional.mse_loss(predicted, target.to(device))


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
