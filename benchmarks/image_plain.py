"""Diffusion-DPO with adapters as a plain loop: VAE, text encoder and reference run in every step."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rather.policies.pipelines.pixels import framed

Lap = Callable[[str], None]
"""Called with the name of a phase that has just ended."""

Draw = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
"""(mean, std) of the latents of 2 B images -> a sample of them, noise and timesteps; those of both halves are alike."""


def _silent(name: str) -> None:
    return None


class PlainLoop:
    """One optimizer step at a time.

    Args:
        pipeline: a ``StableDiffusionPipeline`` in float32.
        side: of the images.
        beta: as published; the loss has half of it.
        rank, alpha: of the adapters on the attention layers.
        two_models: the reference is a second UNet instead of the same one without its adapters.
    """

    def __init__(
        self,
        pipeline: Any,
        *,
        side: int,
        beta: float,
        learning_rate: float,
        bf16: bool,
        rank: int,
        alpha: float,
        two_models: bool = False,
    ) -> None:
        from diffusers import DDPMScheduler
        from peft import LoraConfig

        self.vae, self.text, self.unet = pipeline.vae, pipeline.text_encoder, pipeline.unet
        self.tokenizer, self.side, self.beta, self.bf16 = pipeline.tokenizer, side, beta, bf16
        self.noising: Any = DDPMScheduler.from_config(pipeline.scheduler.config)
        for part in (self.vae, self.text, self.unet):
            part.requires_grad_(False)
        self.reference = copy.deepcopy(self.unet) if two_models else None
        self.unet.add_adapter(
            LoraConfig(
                r=rank,
                lora_alpha=alpha,  # type: ignore[arg-type]  # annotated int, used as a number
                init_lora_weights="gaussian",
                target_modules=["to_k", "to_q", "to_v", "to_out.0"],
            )
        )
        self.unet.train()
        self.device = next(self.unet.parameters()).device
        self.trained = [p for p in self.unet.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.trained, lr=learning_rate, weight_decay=0.0)

    def step(self, rows: Sequence[tuple[str, str, str]], lap: Lap = _silent) -> float:
        """Train on (caption, chosen file, rejected file) of each pair; returns the loss before."""
        loss = self.loss(rows, lap=lap)
        loss.backward()
        lap("backward")
        torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        lap("optimizer")
        return float(loss.detach())

    def loss(self, rows: Sequence[tuple[str, str, str]], draw: Draw | None = None, lap: Lap = _silent) -> Tensor:
        """-log sigma(-beta/2 [(m_w - r_w) - (m_l - r_l)]), mean over pairs; m, r: mean squared errors of the noise."""
        # All chosen images, then all rejected ones.
        files = [chosen for _, chosen, _ in rows] + [rejected for _, _, rejected in rows]
        pixels = torch.from_numpy(np.stack([framed(file, (self.side, self.side)).pixels for file in files])).to(
            self.device
        )
        captions = [caption for caption, _, _ in rows]
        told: Any = self.tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt")
        lap("data")
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            with torch.no_grad():
                known = self.vae.encode(pixels).latent_dist
                latents, noise, timesteps = (draw or self._draw)(known.mean.float(), known.std.float())
                noisy = self.noising.add_noise(latents, noise, timesteps)
                lap("vae")
                states = self.text(told.input_ids.to(self.device))[0].repeat(2, 1, 1)
                lap("text")
                if self.reference is None:
                    self.unet.disable_adapters()
                    reference = self._errors(self.unet, noisy, noise, timesteps, states)
                    self.unet.enable_adapters()
                else:
                    reference = self._errors(self.reference, noisy, noise, timesteps, states)
                lap("reference")
            errors = self._errors(self.unet, noisy, noise, timesteps, states)
        (policy_w, policy_l), (reference_w, reference_l) = errors.chunk(2), reference.chunk(2)
        margin = (policy_w - reference_w) - (policy_l - reference_l)
        loss = -F.logsigmoid(-0.5 * self.beta * margin).mean()
        lap("forward")
        return loss

    def _draw(self, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        half = len(mean) // 2
        latents = (mean + std * torch.randn_like(std)) * self.vae.config.scaling_factor
        noise = torch.randn_like(latents[:half]).repeat(2, 1, 1, 1)
        steps = self.noising.config.num_train_timesteps
        return latents, noise, torch.randint(0, steps, (half,), device=self.device).repeat(2)

    def _errors(self, unet: Any, noisy: Tensor, noise: Tensor, timesteps: Tensor, states: Tensor) -> Tensor:
        """[2 B] mean squared error of the predicted noise."""
        predicted = unet(noisy, timesteps, encoder_hidden_states=states, return_dict=False)[0]
        return (predicted.float() - noise.float()).square().mean((1, 2, 3))


def read(data: str) -> list[tuple[str, str, str]]:
    """Rows for ``PlainLoop.step``."""
    folder = Path(data).parent
    rows = map(json.loads, Path(data).read_text().splitlines())
    return [(row["prompt"], str(folder / row["chosen"]), str(folder / row["rejected"])) for row in rows]
