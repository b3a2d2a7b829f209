"""The base models of shapes, from scratch: text encoders learn to read, then denoiser and text encoders learn from pictures
whose captions are often wrong."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rather.policies.pipelines.architectures import ARCHITECTURES, text_encoders
from rather.policies.pipelines.noise import schedule_of
from rather.policies.shapes import reading
from rather.policies.shapes.autoencoder import as_input
from rather.policies.shapes.fit import Progress, fit
from rather.worlds.shapes.sloppy import captioned

BATCH, RATE, DROPPED = 64, 1e-3, 0.1
READING = 200
"""Steps of the text encoders before those of the denoiser."""


def pretrain(pipeline: Any, steps: int, seed: int, kept: Path | None = None, progress: Progress | None = None) -> None:
    """Train denoiser and text encoders in place; the autoencoder is trained already.

    Args:
        steps: of 64 pictures.
        kept: file that it goes on from where there is one.
    """
    kind = type(pipeline).__name__
    architecture, schedule = ARCHITECTURES[kind](), schedule_of(pipeline, kind, "toy:shapes")
    denoiser, encoders = getattr(pipeline, architecture.component), text_encoders(pipeline)
    device = (torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None) or torch.device(
        "cpu"
    )
    parts = {**encoders, architecture.component: denoiser}
    for part in (*parts.values(), pipeline.vae):
        part.to(device)
    if not (kept and kept.is_file()):
        _learn_to_read(pipeline, encoders, min(READING, steps), seed, device)

    def loss(step: int) -> Tensor:
        return _loss(pipeline, architecture, schedule, denoiser, seed, step, device)

    fit(parts, loss, steps, RATE, seed, kept, progress)
    for part in (*parts.values(), pipeline.vae):
        part.cpu()


def _learn_to_read(pipeline: Any, encoders: dict[str, Any], steps: int, seed: int, device: torch.device) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        known = reading.readers(encoders)
    for reader in known.values():
        reader.to(device)
    fit(
        {**encoders, **known},
        lambda step: reading.loss(pipeline, encoders, known, seed, step),
        steps,
        reading.RATE,
        seed,
    )


def _loss(
    pipeline: Any, architecture: Any, schedule: Any, denoiser: nn.Module, seed: int, step: int, device: torch.device
) -> Tensor:
    captions, images = zip(*islice(captioned(seed, step), BATCH), strict=True)
    told = [caption if torch.rand(()) >= DROPPED else "" for caption in captions]
    with torch.no_grad():
        clean = (
            pipeline.vae.encode(as_input(images).to(device)).latent_dist.mean.cpu()
            * pipeline.vae.config.scaling_factor
        )
    noise = torch.randn_like(clean)
    # All timesteps alike, but for a flow more of those in the middle: logit-normal, arXiv 2403.03206 section 3.1.
    share = torch.randn(len(clean)).sigmoid() if schedule.prediction == "flow" else torch.rand(len(clean))
    timestep = (share * schedule.steps).long().clamp(max=schedule.steps - 1)
    noisy, target = schedule.noised(clean, noise, timestep), schedule.target(clean, noise, timestep)
    texts = architecture.texts(pipeline, told, device)
    predicted = architecture.predict(denoiser, noisy.to(device), timestep.to(device), texts, schedule)
    return nn.functional.mse_loss(predicted, target.to(device))
