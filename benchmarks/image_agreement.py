"""Whether ``rather`` and the plain loop compute the same loss."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks.image_plain import read
from benchmarks.run_images import ImageJob, comparisons, plain_of, policy_of
from rather.policies.pipelines.opening import load


def agreement(job: ImageJob, number: int = 2, spread: float = 2.7, beta: float = 100.0) -> dict[str, float]:
    """Both losses in float32 on the same pairs, noise and timesteps, with adapters that are no identity.

    The plain loop encodes images and captions itself; only the standard normal numbers are handed over.

    Args:
        spread: of the random second factors of the adapters, times the root of the network's width, but at most 0.3; large,
            so that the loss is far from log 2.
        beta: in the place of the job's: 2000 would make 1e-4 of the last digit of a squared error.
    """
    from rather.methods.registry import get

    job = replace(job, beta=beta)
    with patch.dict(os.environ, {"RATHER_CACHE": job.cache}):
        policy = policy_of(replace(job, precision="fp32"), *load(job.pipeline, Path(job.pipeline)))
        batch = policy.collate(policy.encode(comparisons(job.data)[:number]))
    other, _ = load(job.pipeline, Path(job.pipeline))
    plain = plain_of(job, other)
    plain.bf16 = False
    noise = torch.Generator().manual_seed(job.seed)
    denoiser: Any = policy.network
    spread = min(0.3, spread / denoiser.config.block_out_channels[0] ** 0.5)
    for name, parameter in policy.network.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, spread, generator=noise)
    plain.unet.load_state_dict(policy.network.state_dict())
    draw = policy.draw(batch, job.seed)
    clean, order = policy.clean(batch, job.seed), [*range(0, 2 * number, 2), *range(1, 2 * number, 2)]
    normal = ((clean - batch.inputs["latents"]) / batch.inputs["std"])[order]

    def same(mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        scale = plain.vae.config.scaling_factor
        return (mean + std * normal) * scale, draw.target[order], draw.timestep[order]

    objective = get("diffusion_dpo").objective(beta=job.beta)
    with torch.no_grad():
        policy_scores = policy.score(policy.network, batch, draw)
        off = policy.adapters_off(policy.network)
        assert off is not None  # fresh adapters can be switched off
        with off:
            reference = policy.score(policy.network, batch, draw)
        ours = float(objective(policy_scores, reference, batch.layout).loss(batch.layout.counts()))
        theirs = float(plain.loss(read(job.data)[:number], same))
    return {"beta": beta, "rather": ours, "plain": theirs, "difference": abs(ours - theirs)}
