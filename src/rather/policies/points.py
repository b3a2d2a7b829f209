"""``toy:points``: a diffusion or flow model of points in the plane, small enough to train in a minute on one core."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from rather.data.types import Comparison, Response
from rather.objectives.scores import Layout
from rather.policies.base import Batch, Encoded
from rather.policies.counter_random import normals
from rather.policies.denoising import DenoisingPolicy
from rather.policies.encoding_report import EncodingReport
from rather.policies.guidance import Guidance, guided
from rather.policies.schedule import NoiseSchedule, Predict, ddim
from rather.policies.settings import PolicySettings
from rather.policies.toys import load_weights, read_toy, save_weights, trained_once, weights_hash
from rather.worlds.points.truth import PROMPTS, base_data, judge
from rather.worlds.query import QueryOptions

NULL = PROMPTS
"""The prompt that says nothing; prompts are replaced by it in 10% of the base model's training."""

_VERSION = 1  # of the base model; raise it when pretraining changes
_PRETRAINING_STEPS, _PRETRAINING_BATCH = 4000, 256
_SAMPLING_STEPS, _JUDGED, _START = 50, 2000, 2


Process = Literal["diffusion", "flow"]
"""``diffusion``: noise prediction on Stable Diffusion's schedule; ``flow``: velocities of a rectified flow."""


class PointsModelOptions(QueryOptions):
    process: Process = Field("diffusion", description="diffusion or flow")
    seed: int = Field(0, ge=0, description="of the base model")
    steps: int = Field(_PRETRAINING_STEPS, ge=1, description="pretraining steps; fewer leave a poor base model")
    delta: float = Field(0.0, ge=-1, le=10, description="samples are checked against a target this far beyond")
    weights: str | None = Field(None, description="folder of a trained copy")


class PointDenoiser(nn.Module):
    """Prediction of noise or velocity, (x_t [N, 2], timestep [N], prompt [N]) -> [N, 2].

    Three residual layers of width 128; the timestep enters as Fourier features, the prompt as an embedding, both added
    before every layer.
    """

    def __init__(self, width: int = 128, layers: int = 3, frequencies: int = 32) -> None:
        super().__init__()
        self.enter = nn.Linear(2, width)
        self.time = nn.Linear(2 * frequencies, width)
        self.prompt = nn.Embedding(PROMPTS + 1, width)
        self.layers = nn.ModuleList(nn.Sequential(nn.SiLU(), nn.Linear(width, width)) for _ in range(layers))
        self.leave = nn.Linear(width, 2)
        spaced = torch.exp(torch.linspace(0, -math.log(1000.0), frequencies))
        self.register_buffer("frequencies", spaced, persistent=False)

    def forward(self, noisy: Tensor, timestep: Tensor, prompt: Tensor) -> Tensor:
        frequencies = self.get_buffer("frequencies")
        phase = timestep[:, None].to(frequencies.dtype) * frequencies
        condition = self.time(torch.cat([phase.sin(), phase.cos()], -1)) + self.prompt(prompt)
        hidden = self.enter(noisy)
        for layer in self.layers:
            hidden = hidden + layer(hidden + condition)
        return self.leave(hidden)


class PointsPolicy(DenoisingPolicy):
    """The denoising policy of the world of points: prompt c, responses (x, y).

    A comparison may hold the noise that its responses were generated from: ``extras["noise"]``, two numbers for each.

    Args:
        delta: how far beyond the good mode the target lies, for ``check`` and ``illustrate``.
    """

    def __init__(self, network: nn.Module, delta: float = 0.0, process: Process = "diffusion") -> None:
        super().__init__(network, schedule_of(process))
        self.delta = delta
        self.process: Process = process
        self.kind = process
        self.report = EncodingReport()
        named = ("rectified_flow", "flow") if process == "flow" else ("stable_diffusion", "epsilon")
        self._fingerprint = weights_hash(network.state_dict(), "points", *named)

    def encode(self, comparisons: Sequence[Comparison]) -> list[Encoded]:
        """Points as float32; the cost of a comparison is its number of responses."""
        self.report = EncodingReport(comparisons=len(comparisons))
        encoded: list[Encoded] = []
        for comparison in comparisons:
            problem = _problem(comparison)
            if problem:
                self.report.drop(str(comparison.source or comparison.id), problem)
                continue
            points = np.asarray(comparison.responses, np.float32)
            noise = np.asarray(comparison.extras.get("noise", np.full(points.shape, np.nan)), np.float32)
            encoded.append(Encoded(comparison, (2,) * len(points), len(points), (points, noise)))
        self.report.encoded = len(encoded)
        return encoded

    def collate(self, encoded: Sequence[Encoded]) -> Batch:
        """``inputs``: ``latents`` [R, 2], ``prompt`` [R], and ``noise`` [R, 2], NaN where none is stored."""
        layout = Layout.of([e.comparison for e in encoded], [size for e in encoded for size in e.lengths])
        prompt = torch.tensor([e.comparison.prompt for e in encoded])[layout.prompt]
        latents, noise = (torch.from_numpy(np.concatenate([e.inputs[k] for e in encoded])) for k in (0, 1))
        inputs = {"latents": latents, "prompt": prompt, "noise": noise}
        return Batch(layout, inputs, tuple(e.comparison.id for e in encoded))

    def blank(self) -> Response:
        return (0.0, 0.0)

    def predict(self, network: nn.Module, noisy: Tensor, timestep: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        return network(noisy, timestep, inputs["prompt"])

    def unprompted(self, inputs: Mapping[str, Any], rows: Tensor | None = None) -> dict[str, Any]:
        prompt: Tensor = inputs["prompt"]
        return {**inputs, "prompt": torch.full_like(prompt, NULL) if rows is None else prompt.masked_fill(rows, NULL)}

    def fingerprint(self) -> str:
        """Hash of the weights at construction and of the schedule."""
        return self._fingerprint

    def save(self, network: nn.Module, folder: Path) -> None:
        """``model.safetensors``; ``toy:points?weights=FOLDER`` opens it."""
        save_weights(network, Path(folder), {"model": "toy:points"})

    def points(
        self,
        network: nn.Module,
        prompts: np.ndarray,
        seed: int,
        steps: int = _SAMPLING_STEPS,
        guidance: Guidance | None = None,
    ) -> np.ndarray:
        """[N, 2] float64 samples for ``prompts`` [N]; the start noise of the i-th depends on ``seed`` and i alone."""
        return self.from_noise(network, prompts, self.start_noise(len(prompts), seed), steps, guidance)

    def start_noise(self, count: int, seed: int) -> np.ndarray:
        """[N, 2] float32 noise that samples start from."""
        return normals(seed, np.arange(count), _START, 2).astype(np.float32)

    @torch.no_grad()
    def from_noise(
        self,
        network: nn.Module,
        prompts: np.ndarray,
        noise: np.ndarray,
        steps: int = _SAMPLING_STEPS,
        guidance: Guidance | None = None,
    ) -> np.ndarray:
        """[N, 2] float64 samples for ``prompts`` [N] from ``noise`` [N, 2]: DDIM, or Euler's method for a flow."""
        weight = next(network.parameters())
        prompt = torch.as_tensor(prompts).to(weight.device)
        start = torch.from_numpy(noise).to(weight)

        def for_prompt(model: nn.Module, shown: Tensor) -> Predict:
            return lambda noisy, timestep: model(noisy, timestep, shown)

        predict = for_prompt(network, prompt)
        if guidance is not None:
            shown = prompt if guidance.same_prompt else torch.full_like(prompt, NULL)
            predict = guided(predict, for_prompt(guidance.network, shown), guidance.omega)
        points = ddim(self.schedule, predict, start, steps)
        return points.double().cpu().numpy()

    def check(self, network: nn.Module) -> dict[str, np.ndarray]:
        """Which of 2000 samples pass, by check; ``pass_rate``: nearer to the good mode than to the bad one."""
        prompts, points = self._judged(network)
        found = judge(prompts, points, self.delta)
        target = "near the good mode" if self.delta == 0 else f"near the target (delta {self.delta:g})"
        return {
            "pass_rate": found["good"],
            target: found["hit"],
            "near a mode or the target": ~found["off"] | found["hit"],
        }

    def illustrate(self, network: nn.Module, path: Path) -> str:
        """A scatter plot of samples into ``path``; returns what it shows, in one sentence."""
        from rather.worlds.points.picture import scatter

        prompts, points = self._judged(network)
        scatter(prompts, points, path, self.delta)
        return f"{len(points)} samples; colours are prompts, solid circles the good modes, dotted ones the bad"

    def _judged(self, network: nn.Module) -> tuple[np.ndarray, np.ndarray]:
        prompts = np.arange(_JUDGED) % PROMPTS
        return prompts, self.points(network, prompts, seed=0)


def schedule_of(process: Process) -> NoiseSchedule:
    return NoiseSchedule.rectified_flow() if process == "flow" else NoiseSchedule.stable_diffusion()


def open_points(settings: PolicySettings) -> PointsPolicy:
    """The policy of ``toy:points?...``; the base model is trained at first use (about ten seconds)."""
    options = read_toy(PointsModelOptions, settings)
    network = PointDenoiser()
    if options.weights:
        load_weights(network, options.weights, settings.model)
    else:
        flow = "flow-" if options.process == "flow" else ""
        few = "" if options.steps == _PRETRAINING_STEPS else f"-steps{options.steps}"
        name = f"points-{flow}v{_VERSION}-seed{options.seed}{few}"
        trained_once(network, name, lambda fresh: pretrain(fresh, options.seed, options.steps, options.process))
    return PointsPolicy(network, options.delta, options.process)


def pretrain(network: nn.Module, seed: int, steps: int = _PRETRAINING_STEPS, process: Process = "diffusion") -> None:
    """Train ``network`` from scratch, in place, on base data of both modes; global random state is left alone."""
    schedule = schedule_of(process)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in network.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                module.reset_parameters()
        prompts, points = base_data(steps * _PRETRAINING_BATCH // 20, seed)
        prompt_table, point_table = torch.from_numpy(prompts), torch.from_numpy(points).float()
        optimizer = torch.optim.Adam(network.parameters(), lr=2e-3, fused=True)
        rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, eta_min=1e-5)
        for _ in range(steps):
            rows = torch.randint(len(prompts), (_PRETRAINING_BATCH,))
            clean, prompt = point_table[rows], prompt_table[rows]
            prompt = torch.where(torch.rand(len(rows)) < 0.1, NULL, prompt)
            timestep, noise = torch.randint(schedule.steps, (len(rows),)), torch.randn_like(clean)
            predicted = network(schedule.noised(clean, noise, timestep), timestep, prompt)
            loss = nn.functional.mse_loss(predicted, schedule.target(clean, noise, timestep))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            rate.step()


def _problem(comparison: Comparison) -> str | None:
    if not (isinstance(comparison.prompt, int) and 0 <= comparison.prompt < PROMPTS):
        return f"a prompt of toy:points is an integer from 0 to {PROMPTS - 1}"
    try:
        points = np.asarray(comparison.responses, np.float64)
    except (TypeError, ValueError):
        points = np.empty(0)
    if points.shape != (len(comparison.responses), 2) or not np.isfinite(points).all():
        return "a response of toy:points is two finite numbers"
    noise = comparison.extras.get("noise")
    if noise is not None and np.shape(noise) != points.shape:
        return "the stored noise of a response of toy:points is two numbers"
    return None
