"""Training of the base models of shapes: denoiser and text encoders together, from scratch, on sloppy captions."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from rather.policies.pipelines.architectures import ARCHITECTURES
from rather.policies.pipelines.noise import schedule_of
from rather.worlds.shapes.sloppy import captioned

BATCH, RATE, AVERAGE, DROPPED = 32, 1e-3, 0.995, 0.1


def pretrain(pipeline: Any, steps: int, seed: int, progress: Any = None) -> None:
    """Train in place; what is left are averages of the weights. Global random state is left alone.

    Args:
        steps: of 32 pictures.
        progress: called with the number of steps done and the loss.
    """
    kind = type(pipeline).__name__
    architecture, schedule = ARCHITECTURES[kind](), schedule_of(pipeline, kind, "toy:shapes")
    denoiser = getattr(pipeline, architecture.component)
    parts = [part for name, part in pipeline.components.items() if name.startswith("text_encoder")] + [denoiser]
    weights = [weight for part in parts for weight in part.parameters()]
    averages = [weight.detach().clone() for weight in weights]
    optimizer = torch.optim.AdamW(weights, lr=RATE, weight_decay=0.01, fused=True)
    shape = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps + 1, pct_start=0.05)
    pictures = captioned(seed)
    for part in parts:
        part.train().requires_grad_(True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for step in range(steps):
            captions, pixels = zip(*(next(pictures) for _ in range(BATCH)), strict=True)
            told = [caption if torch.rand(()) >= DROPPED else "" for caption in captions]
            loss = _loss(pipeline, architecture, schedule, denoiser, told, np.stack(pixels))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            shape.step()
            kept = min(AVERAGE, step / (step + 10))
            torch._foreach_lerp_(averages, [weight.detach() for weight in weights], 1 - kept)
            if progress is not None:
                progress(step + 1, loss.item())
    with torch.no_grad():
        for weight, average in zip(weights, averages, strict=True):
            weight.copy_(average)
    for part in parts:
        part.eval().requires_grad_(False)


def _loss(
    pipeline: Any, architecture: Any, schedule: Any, denoiser: nn.Module, captions: list[str], pixels: np.ndarray
) -> torch.Tensor:
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1
    clean = pipeline.vae.encode(images).latent_dist.mean
    texts = architecture.texts(pipeline, captions, clean.device)
    noise = torch.randn_like(clean)
    # All timesteps alike, but for a flow more of those in the middle: logit-normal, arXiv 2403.03206 section 3.1.
    share = torch.randn(len(clean)).sigmoid() if schedule.prediction == "flow" else torch.rand(len(clean))
    timestep = (share * schedule.steps).long().clamp(max=schedule.steps - 1)
    noisy = schedule.noised(clean, noise, timestep)
    predicted = architecture.predict(denoiser, noisy, timestep, texts, schedule)
    return nn.functional.mse_loss(predicted, schedule.target(clean, noise, timestep))
