"""The noise that a pipeline's scheduler trains with."""

from __future__ import annotations

from typing import Any

from rather.errors import UserError
from rather.policies.pipelines.architectures import ARCHITECTURES, Flux, StableDiffusion3
from rather.policies.schedule import NoiseSchedule, Prediction

_PREDICTIONS: dict[str, Prediction] = {"epsilon": "epsilon", "v_prediction": "velocity"}


def schedule_of(pipeline: Any, kind: str, name: str) -> NoiseSchedule:
    """The noise that the pipeline's scheduler trains with, from its configuration."""
    from diffusers import DDPMScheduler

    config = pipeline.scheduler.config
    if issubclass(ARCHITECTURES[kind], StableDiffusion3 | Flux):
        if "Flow" not in type(pipeline.scheduler).__name__:
            what = f"the scheduler {type(pipeline.scheduler).__name__} is none of a rectified flow"
            raise UserError(what, where=name, fix="use FlowMatchEulerDiscreteScheduler")
        # A shift that depends on the size of the image is a matter of sampling: the flow is trained without.
        shift = 1.0 if config.get("use_dynamic_shifting") else float(config.get("shift", 1.0))
        return NoiseSchedule.rectified_flow(int(config.num_train_timesteps), shift)
    predicted = config.get("prediction_type", "epsilon")
    if predicted not in _PREDICTIONS:
        fix = f"those are: {', '.join(_PREDICTIONS)}"
        raise UserError(f"the prediction type {predicted!r} is not supported", where=f"{name}/scheduler", fix=fix)
    trained: Any = DDPMScheduler.from_config(config)
    alpha_bar = trained.alphas_cumprod
    return NoiseSchedule.preserving(alpha_bar.double(), _PREDICTIONS[predicted])
