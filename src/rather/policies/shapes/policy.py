"""An image pipeline that knows the truth about its samples: a program reads them and compares them with their captions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from rather.policies.pipelines.architectures import Architecture
from rather.policies.pipelines.policy import PipelinePolicy
from rather.policies.schedule import NoiseSchedule
from rather.policies.settings import PolicySettings
from rather.worlds.shapes.demand import TASKS, Demand
from rather.worlds.shapes.picture import sheet
from rather.worlds.shapes.render import Image
from rather.worlds.shapes.score import checks, obeys, prompts

SIDE = 32
"""Of the images that base models are trained on."""
GUIDANCE, STEPS = 3.0, 20
_SHOWN = 4  # samples of each task that are drawn


class ShapesPolicy(PipelinePolicy):
    """Samples start from the same noise each time, so that those of two models can be compared one by one.

    Attributes:
        per_task: held-out captions of each of the six tasks that samples are checked for.
    """

    def __init__(
        self,
        pipeline: Any,
        architecture: Architecture,
        schedule: NoiseSchedule,
        settings: PolicySettings,
        name: str,
        adapters: Path | None = None,
    ) -> None:
        # So small a network gains nothing from bfloat16: its products take less time than the casts.
        precision = "fp32" if settings.precision == "auto" else settings.precision
        told = settings.model_copy(update={"image_size": settings.image_size or SIDE, "precision": precision})
        super().__init__(pipeline, architecture, schedule, told, name, adapters)
        self.per_task = 50

    def check(self, network: nn.Module) -> dict[str, np.ndarray]:
        """Which samples for held-out captions show what was asked for: ``pass_rate`` of all six tasks; everything that was
        asked for, one by one; and samples by task."""
        demands, _, images = self._judged(self.per_task)
        passed = np.array([obeys(demand, image) for demand, image in zip(demands, images, strict=True)])
        tasks = np.array([demand.task for demand in demands])
        single = [check for demand, image in zip(demands, images, strict=True) for check in checks(demand, image)]
        return {"pass_rate": passed, "single checks": np.array(single)} | {
            task.replace("_", " "): passed[tasks == task] for task in TASKS
        }

    def illustrate(self, network: nn.Module, path: Path) -> str:
        """A sheet of samples with their captions; returns what it shows, in one sentence."""
        demands, captions, images = self._judged(_SHOWN)
        right = [obeys(demand, image) for demand, image in zip(demands, images, strict=True)]
        sheet(captions, images, right, path)
        return f"{len(images)} samples for held-out captions; a solid green frame: the image shows what was asked for"

    def _judged(self, per_task: int) -> tuple[list[Demand], list[str], list[Image]]:
        asked = prompts(per_task)
        captions = [caption for _, caption in asked]
        made = self.images(captions, steps=STEPS, guidance=GUIDANCE)
        return [demand for demand, _ in asked], captions, [_pixels(image) for image in made]


def _pixels(image: Any) -> Image:
    return np.asarray(image.convert("RGB"))
