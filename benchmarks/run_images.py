"""One contender on images in one process: ``rather`` with its cache filled, the filling alone, or the plain loop."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args
from unittest.mock import patch

import torch

from benchmarks.image_plain import PlainLoop, read
from benchmarks.job import Short
from benchmarks.meter import Meter
from rather.data.types import Comparison, Edge
from rather.policies.pipelines import policy as policies
from rather.policies.pipelines.architectures import ARCHITECTURES
from rather.policies.pipelines.noise import schedule_of
from rather.policies.pipelines.opening import load
from rather.policies.pipelines.policy import PipelinePolicy
from rather.policies.settings import PolicySettings
from rather.training import machine
from rather.training.loop import Loop
from rather.training.run import train

Contender = Literal["filling", "rather", "torch convolutions", "plain", "plain tuned", "two models"]
"""``filling``: images and captions into an empty cache, nothing else. ``torch convolutions``: ``rather`` without products in
their place. ``plain tuned``: with the allocator as ``rather`` sets it. ``two models``: as plain, but the reference is a
second UNet."""
ALL: tuple[Contender, ...] = get_args(Contender)
"""In the order in which they run: ``rather`` finds the cache filled."""
PLAIN = ("plain", "plain tuned", "two models")

_RANK, _ALPHA = 16, 32.0


@dataclass(frozen=True)
class ImageJob(Short):
    """A short training run on images.

    Attributes:
        pipeline: a folder.
        data: a file of pairs of ``benchmarks.image_models``.
        cache: folder of the latents and states that ``rather`` keeps.
        side: of the images, pixels.
        batch: pairs of an optimizer step.
    """

    contender: Contender
    pipeline: str
    data: str
    cache: str
    side: int
    batch: int
    steps: int
    warmup: int = 1
    precision: Literal["bf16", "fp32"] = "bf16"
    learning_rate: float = 1e-4
    beta: float = 2000.0
    seed: int = 42
    form: str | None = None


@dataclass
class ImageStep:
    """Of a batch; ``wall`` and ``cpu`` seconds, ``phases`` wall seconds; ``loss`` is none where only the cache is filled."""

    wall: float
    cpu: float
    loss: float | None
    phases: dict[str, float] = field(default_factory=dict)


@dataclass
class ImageResult:
    """Memory in MiB, see ``benchmarks.job.Result``."""

    steps: list[ImageStep]
    memory: dict[str, float]
    parameters: dict[str, int]
    device: str

    def plain(self) -> dict[str, Any]:
        return asdict(self)


class _Done(Exception):
    """All steps are taken."""


def run(job: ImageJob) -> ImageResult:
    """Train as the job says, in this process."""
    meter = Meter()
    if job.contender not in ("plain", "two models"):
        machine.prepare_cpu()
    pipeline, kind = load(job.pipeline, Path(job.pipeline))
    parts = (pipeline.unet, pipeline.vae, pipeline.text_encoder)
    counted = {name: _size(part) for name, part in zip(("unet", "vae", "text"), parts, strict=True)}
    if job.contender in PLAIN:
        pipeline.to(meter.device)
    meter.loaded()
    with patch.dict(os.environ, {"RATHER_CACHE": job.cache}):
        if job.contender in PLAIN:
            steps, memory = _plain(job, pipeline, meter)
        elif job.contender == "filling":
            steps, memory = _filling(job, policy_of(job, pipeline, kind), meter)
        elif job.contender == "torch convolutions":
            with patch.object(policies, "use_products", lambda network: None):
                steps, memory = _rather(job, policy_of(job, pipeline, kind), meter)
        else:
            steps, memory = _rather(job, policy_of(job, pipeline, kind), meter)
    counted["trained"] = sum(p.numel() for p in pipeline.unet.parameters() if p.requires_grad)
    return ImageResult(steps, memory, counted, str(meter.device))


def policy_of(job: ImageJob, pipeline: Any, kind: str) -> PipelinePolicy:
    """As ``rather train --lora`` opens it; the plain loop leaves out no captions, so neither does this."""
    settings = PolicySettings(  # type: ignore[call-arg]
        model=job.pipeline, lora=True, lora_rank=_RANK, lora_alpha=_ALPHA, precision=job.precision,
        image_size=job.side, caption_drop=0.0,
    )  # fmt: skip
    schedule = schedule_of(pipeline, kind, job.pipeline)
    return PipelinePolicy(pipeline, ARCHITECTURES[kind](), schedule, settings, job.pipeline)


def plain_of(job: ImageJob, pipeline: Any) -> PlainLoop:
    """The plain loop with the same adapters."""
    return PlainLoop(
        pipeline, side=job.side, beta=job.beta, learning_rate=job.learning_rate, bf16=job.precision == "bf16",
        rank=_RANK, alpha=_ALPHA, two_models=job.contender == "two models",
    )  # fmt: skip


def comparisons(data: str) -> list[Comparison]:
    return [
        Comparison(id=str(number), prompt=caption, responses=(chosen, rejected), edges=(Edge(0, 1),))
        for number, (caption, chosen, rejected) in enumerate(read(data))
    ]


def _plain(job: ImageJob, pipeline: Any, meter: Meter) -> tuple[list[ImageStep], dict[str, float]]:
    torch.manual_seed(job.seed)
    loop, rows = plain_of(job, pipeline), read(job.data)
    steps = []
    meter.ready()
    for number in range(job.total):
        phases: dict[str, float] = {}
        start = meter.now()
        last = start[0]

        def lap(name: str, phases: dict[str, float] = phases) -> None:
            nonlocal last
            now = meter.now()[0]
            phases[name], last = now - last, now

        loss = loop.step(rows[number * job.batch : (number + 1) * job.batch], lap)
        steps.append(ImageStep(**meter.since(start), loss=loss, phases=phases))
    return steps, meter.memory()


def _filling(job: ImageJob, policy: PipelinePolicy, meter: Meter) -> tuple[list[ImageStep], dict[str, float]]:
    rows, steps = comparisons(job.data), []
    for number in range(job.total):
        start = meter.now()
        policy.encode(rows[number * job.batch : (number + 1) * job.batch])
        taken = meter.since(start)
        steps.append(ImageStep(taken["wall"], taken["cpu"], None))
    return steps, meter.memory()


def _rather(job: ImageJob, policy: PipelinePolicy, meter: Meter) -> tuple[list[ImageStep], dict[str, float]]:
    """A batch goes through in one pass, as in the plain loop."""
    steps: list[ImageStep] = []
    memory: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder, _watched(job, meter, steps, memory), suppress(_Done):
        train(
            policy, comparisons(job.data), method="diffusion_dpo", beta=job.beta, batch_size=job.batch,
            max_tokens=job.batch * 2 * math.prod(policy.noise_shape[1:]), max_steps=job.total,
            learning_rate=job.learning_rate, lr_schedule="constant", warmup_ratio=0.0, seed=job.seed, eval_fraction=0.0,
            samples=False, save_steps=0, quiet=True, profile=meter.device.type == "cuda",
            output=str(Path(folder) / "run"),
        )  # fmt: skip
    return steps, memory


@contextmanager
def _watched(job: ImageJob, meter: Meter, steps: list[ImageStep], memory: dict[str, float]) -> Iterator[None]:
    """Time the loop's own steps, with what is between them, and stop after the last."""
    original, mark = Loop.step, None

    def step(loop: Loop, number: int) -> Any:
        nonlocal mark
        if mark is None:
            meter.ready()
            mark = meter.now()
        start = mark
        found = original(loop, number)
        steps.append(ImageStep(**meter.since(start), loss=found.loss, phases=dict(found.seconds)))
        mark = meter.now()
        if len(steps) == job.total:
            memory.update(meter.memory())
            raise _Done
        return found

    with patch.object(Loop, "step", step):
        yield


def _size(part: Any) -> int:
    return sum(p.numel() for p in part.parameters())
