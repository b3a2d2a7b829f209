"""Settings of a training run: one flat pydantic model from which flags, YAML keys and the saved config are made.

``rather.training.settings`` reads settings from files, flags and keyword arguments; this file only declares them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from rather.policies.settings import PolicySettings

Whole = Annotated[int, Field(ge=0)]
ReferenceKind = Literal["auto", "none", "frozen", "adapters", "cached", "ema", "sync"]

NEUTRAL = frozenset(
    {
        *("resume", "output", "save_steps", "keep_checkpoints", "logging_steps", "report_to", "push_to_hub"),
        *("samples", "sample_prompts", "sample_tokens"),
        *("micro_batch_size", "max_tokens", "eval_max_tokens", "profile"),
    }
)
"""Settings that change neither the data nor the arithmetic of a step, so a resumed run may change them."""


def setting(default: Any, description: str, panel: str, **limits: Any) -> Any:
    """A pydantic field with its help text and help panel."""
    return Field(default, description=description, json_schema_extra={"panel": panel}, **limits)


class TrainConfig(PolicySettings):
    """Everything ``rather train`` can be told; ``method_options`` holds the method's own options, flat and dotted."""

    data: str = setting(..., "training data: a file, a folder, a dataset name, or a world", "Data")
    eval_data: str | None = setting(None, "held-out data; without it a share of the data is held out", "Data")
    eval_fraction: float = setting(
        0.1, "share of the prompts held out when there is no eval data; 0: none", "Data", ge=0, lt=1
    )
    eval_limit: int = setting(500, "most held-out comparisons", "Data", ge=1)
    limit: int | None = setting(None, "use the first so many comparisons", "Data", ge=1)
    strict: bool = setting(False, "stop at the first broken row, and at any overlap of training and eval data", "Data")

    method: str = setting("dpo", "preference method; its own options are flags too (rather explain METHOD)", "Method")
    method_options: dict[str, Any] = setting({}, "options of the method", "Method")
    reference: ReferenceKind = setting(
        "auto",
        "what the policy is compared with: the model before training (frozen copy, adapters off, or cached scores), "
        "a moving average (ema), a copy renewed every few steps (sync), or nothing",
        "Method",
    )
    ref_decay: float = setting(0.99, "ema reference: share kept at each step", "Method", ge=0, le=1)
    ref_sync_steps: int = setting(100, "sync reference: steps between renewals", "Method", ge=1)

    learning_rate: float | None = setting(
        None,
        "peak learning rate; auto: 1e-4 with LoRA, else 5e-6 below 1B parameters and 1e-6 from there (reward models: "
        "2e-4 below 50M, 2e-5 below 1B, then 2e-6)",
        "Optimisation",
        gt=0,
    )
    objective_learning_rate: float | None = setting(
        None,
        "learning rate of the objective's own parameters; auto: as the method says, mostly 10 times that of the model",
        "Optimisation",
        gt=0,
    )
    lr_schedule: Literal["constant", "linear", "cosine"] = setting(
        "linear", "after warm-up: constant, or falling to 0", "Optimisation"
    )
    warmup_ratio: float = setting(0.1, "share of the steps in which the rate rises from 0", "Optimisation", ge=0, lt=1)
    warmup_steps: int | None = setting(None, "warm-up in steps instead of a share", "Optimisation", ge=0)
    optimizer: Literal["adamw", "rmsprop", "sgd"] = setting("adamw", "optimizer", "Optimisation")
    weight_decay: float = setting(0.0, "decoupled weight decay of matrices", "Optimisation", ge=0)
    adam_beta1: float = setting(0.9, "AdamW: decay of the first moment", "Optimisation", ge=0, lt=1)
    adam_beta2: float = setting(0.999, "AdamW: decay of the second moment", "Optimisation", ge=0, lt=1)
    adam_epsilon: float = setting(1e-8, "AdamW: added to the denominator", "Optimisation", gt=0)
    max_grad_norm: float = setting(1.0, "gradients are scaled down to this norm; 0: never", "Optimisation", ge=0)

    batch_size: int = setting(16, "comparisons in an optimizer step, over all processes", "Batches", ge=1)
    micro_batch_size: int | None = setting(None, "most comparisons in one forward pass", "Batches", ge=1)
    max_tokens: int = setting(
        2048, "most tokens in one forward pass (a larger comparison goes alone)", "Batches", ge=1
    )
    epochs: float = setting(1.0, "passes over the data", "Batches", gt=0)
    max_steps: int | None = setting(None, "optimizer steps, whatever the epochs", "Batches", ge=1)
    seed: int = setting(0, "decides order, adapters, dropout and noise", "Batches", ge=0, lt=2**63)

    eval_steps: Whole | Literal["auto"] = setting(
        "auto", "steps between evaluations; 0: only before and after; auto: four times in the run", "Evaluation"
    )
    eval_max_tokens: int | None = setting(None, "most tokens in one forward pass of an evaluation", "Evaluation", ge=1)
    best_metric: str = setting("loss", "held-out number that decides which weights are best", "Evaluation")
    best_direction: Literal["auto", "min", "max"] = setting(
        "auto", "whether less or more of it is better; auto: less for loss and kl, else more", "Evaluation"
    )
    final_model: Literal["last", "best"] = setting("last", "which weights the run ends with", "Evaluation")
    early_stopping_patience: int | None = setting(
        None, "stop after so many evaluations without a better one, and keep the best weights", "Evaluation", ge=1
    )
    samples: bool = setting(True, "sample answers to held-out prompts before and after", "Evaluation")
    sample_prompts: int = setting(8, "how many of them", "Evaluation", ge=1)
    sample_tokens: int = setting(128, "longest sampled answer, in tokens", "Evaluation", ge=1)

    output: str | None = setting(None, "run folder; auto: runs/MODEL-METHOD-DATA", "Output")
    resume: bool = setting(False, "go on from the run folder's last checkpoint", "Output")
    save_steps: Whole | Literal["auto"] = setting(
        "auto", "steps between checkpoints; 0: none; auto: as often as costs at most 5% of the time", "Output"
    )
    keep_checkpoints: int = setting(2, "checkpoints kept", "Output", ge=1)
    logging_steps: int = setting(1, "steps between rows of metrics.jsonl", "Output", ge=1)
    profile: bool = setting(False, "measure at the end how well the machine was used", "Output")
    report_to: str = setting("none", "trackers, comma-separated: tensorboard, wandb, trackio", "Output")
    push_to_hub: str | None = setting(None, "hub repository that gets the final model", "Output")

    @model_validator(mode="after")
    def _consistent(self) -> TrainConfig:
        if self.early_stopping_patience and self.eval_steps == 0:
            raise ValueError("early_stopping_patience needs evaluations during the run: eval_steps must not be 0")
        if self.reference == "adapters" and not self.lora:
            raise ValueError("reference 'adapters' needs lora: true; without adapters there is nothing to switch off")
        unknown = [name for name in self.trackers if name not in ("tensorboard", "wandb", "trackio")]
        if unknown:
            raise ValueError(f"report_to knows tensorboard, wandb and trackio, not {unknown[0]!r}")
        return self

    @property
    def trackers(self) -> list[str]:
        names = [name.strip() for name in self.report_to.split(",")]
        return [name for name in names if name and name != "none"]

    @property
    def lower_is_better(self) -> bool:
        if self.best_direction != "auto":
            return self.best_direction == "min"
        return self.best_metric in ("loss", "kl")

    def flat(self) -> dict[str, Any]:
        """Settings as they are saved and as flags take them: the method's options beside the others."""
        values = self.model_dump(exclude={"method_options", "resume"})
        return {**values, **self.method_options}


PANELS = ("Model", "Data", "Method", "Optimisation", "Batches", "Evaluation", "Output")


def panel(name: str) -> str:
    """The help panel of a setting."""
    extra = TrainConfig.model_fields[name].json_schema_extra
    return str(extra.get("panel", "Model")) if isinstance(extra, dict) else "Model"


def flags() -> list[str]:
    """Names of the settings that are flags, those of the model first, in the order of the panels."""
    names = [name for name in TrainConfig.model_fields if name != "method_options"]
    return sorted(names, key=lambda name: PANELS.index(panel(name)))
