"""An image pipeline that knows the truth about its samples: a program reads them and compares them with their captions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import nn

from rather.policies.pipelines.pixels import pixels_of
from rather.policies.pipelines.policy import PipelinePolicy
from rather.policies.settings import PolicySettings
from rather.worlds.shapes.demand import TASKS, Demand
from rather.worlds.shapes.picture import sheet
from rather.worlds.shapes.render import Image
from rather.worlds.shapes.score import GENEVAL, SINGLE, marks, obeys, prompts

SIDE = 32
"""Of the images that base models are trained on."""
GUIDANCE, STEPS = 3.0, 20


class ShapesPolicy(PipelinePolicy):
    """Samples start from the same noise each time, so that those of two models can be compared one by one.

    Attributes:
        per_task: held-out captions of each of the six tasks that samples are checked for.
        drawn: those of each task that a sheet shows.
        noise_seed: of the noise that checked samples start from.
    """

    per_task = 50
    drawn = 4
    noise_seed = 0

    @staticmethod
    def suited(settings: PolicySettings) -> PolicySettings:
        # So small a network gains nothing from bfloat16: its products take less time than the casts.
        precision = "fp32" if settings.precision == "auto" else settings.precision
        return settings.model_copy(update={"image_size": settings.image_size or SIDE, "precision": precision})

    def check(self, network: nn.Module) -> dict[str, np.ndarray]:
        """Which samples for held-out captions show what was asked for: ``pass_rate``, everything and nothing else;
        everything that was asked for, one by one; and what each task is about, as GenEval asks, of all six and by task."""
        demands, _, images = self._judged(self.per_task)
        read = [marks(demand, image) for demand, image in zip(demands, images, strict=True)]
        found, answers = [single for single, _ in read], np.array([answered for _, answered in read])
        tasks = np.array([demand.task for demand in demands])
        return {
            "pass_rate": np.array([all(each) for each in found]),
            SINGLE: np.concatenate(found),
            GENEVAL: answers,
        } | {task.replace("_", " "): answers[tasks == task] for task in TASKS}

    def illustrate(self, network: nn.Module, path: Path) -> str:
        """A sheet of samples with their captions; returns what it shows, in one sentence."""
        demands, captions, images = self._judged(self.drawn)
        right = [obeys(demand, image) for demand, image in zip(demands, images, strict=True)]
        sheet(captions, images, right, path)
        return f"{len(images)} samples for held-out captions; a solid green frame: the image shows what was asked for"

    def _judged(self, per_task: int) -> tuple[list[Demand], list[str], list[Image]]:
        asked = prompts(per_task)
        captions = [caption for _, caption in asked]
        made = self.images(captions, self.noise_seed, STEPS, GUIDANCE)
        return [demand for demand, _ in asked], captions, [pixels_of(image) for image in made]
