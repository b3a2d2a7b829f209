"""``rather fit-reward``: a reward model from preferences, by the loop that trains everything else."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from rather.cli.options import with_flags
from rather.errors import UserError
from rather.training.config import TrainConfig, flags, panel

CONTEXT = {"allow_extra_args": True, "ignore_unknown_options": True}
"""What is no setting may be an option of the loss; ``settings.resolve`` tells, and names the nearest."""

FIXED = ("method", "reference", "samples", "sample_prompts", "sample_tokens", "ref_decay", "ref_sync_steps")
"""Settings of ``rather train`` that mean nothing here."""

Head = Literal["bt", "gpm"]


def _fit_reward(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="YAML file of settings; flags win over it", show_default=False),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="print nothing but errors")] = False,
    head: Annotated[
        Head | None,
        typer.Option(help="bt: a reward; gpm: an embedding, for preferences that go in cycles (default bt)"),
    ] = None,
    dim: Annotated[int | None, typer.Option(help="gpm: dimension of the embedding (default 8)")] = None,
    gate: Annotated[
        str | None, typer.Option(help="gpm: none, softmax or softmax_mean1: weights of its planes (default softmax)")
    ] = None,
    l2: Annotated[
        str | None, typer.Option(help="gpm: auto, on or off: unit length (default auto: with a gate)")
    ] = None,
    pooling: Annotated[
        str | None, typer.Option(help="auto, last, mean or cls (default auto: last token; mean for encoders)")
    ] = None,
    **values: Any,
) -> None:
    """Fit a reward model to preferences.

    Any causal language model or encoder, with a head on it; settings are those of rather train, and options of the loss
    are flags too: --tau 2, --labels.flip_rate 0.1 (rather explain bt, rather explain gpm). The model folder opens with
    rather.rewards.load, and serves rather sample --judge.
    """
    from rather.training import settings
    from rather.training.run import run

    given = settings.from_flags(values, list(context.args))
    if config is not None:
        given = given.over(settings.from_yaml(config))
    options = {"head": head, "dim": dim, "gate": gate, "l2": l2, "pooling": pooling}
    chosen = {name: value for name, value in options.items() if value is not None}
    named = model_name(given.values.get("model"), chosen)
    own = {"model": named} if named else {}
    defaults = {"method": _method(named), "reference": "none", "samples": False}
    result = run(settings.resolve(settings.Settings(own).over(given).over(settings.Settings(defaults))), quiet=quiet)
    if result.status == "interrupted":
        raise typer.Exit(130)


def model_name(model: str | None, options: dict[str, Any]) -> str | None:
    """``reward:MODEL?head=gpm&dim=8`` from a model's name and the head's options; one with the prefix is taken as it is.

    Raises:
        UserError: options are given twice, in the name and beside it.
    """
    if model is None:
        return None
    if model.startswith("reward:"):
        if options:
            where = f"--{next(iter(options))}"
            raise UserError(f"the head is settled in the model's name, {model}", where=where, fix="leave one out")
        return model
    query = "&".join(f"{name}={value}" for name, value in options.items())
    return f"reward:{model}?{query}" if query else f"reward:{model}"


def _method(model: str | None) -> Head:
    """The loss that belongs to the head of a model's name."""
    from rather.policies.reward import head_of

    return head_of(model) if model else "bt"


_fit_reward.__name__ = "fit_reward"
main = with_flags(_fit_reward, TrainConfig.model_fields, [name for name in flags() if name not in FIXED], panel)
