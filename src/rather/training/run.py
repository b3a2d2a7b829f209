"""Start a run: from Python (``train``) or from a resolved configuration (``run``)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rather.errors import UserError
from rather.policies.base import Policy
from rather.training import (
    finish,
    machine,
    preflight,
    ranks,
    settings,
)
from rather.training.config import TrainConfig
from rather.training.display import Display
from rather.training.record import (
    check_output,
    check_unchanged,
    default_output,
    read_json,
)
from rather.training.stages import RunResult, Stages


def train(
    model: str | Policy,
    data: preflight.Data,
    *,
    eval_data: preflight.Data | None = None,
    quiet: bool = False,
    **options: Any,
) -> RunResult:
    """Train a model on preferences; everything ``rather train`` does, as one call.

    Args:
        model: a folder, a hub name or an alias; or an opened policy.
        data, eval_data: a file or dataset name; or comparisons.
        quiet: print nothing.
        options: any setting of ``TrainConfig`` and any option of the method (dotted ones in a dict, ``labels={...}``,
        or
            by ``**{"labels.flip_rate": 0.1}``).

    Raises:
        UserError: a setting, the data or the model is wrong; nothing was written, or the message says what.
    """
    policy = None if isinstance(model, str) else model
    named = {"model": model if isinstance(model, str) else f"in-memory:{model.kind}", "data": _name(data)}
    held = {} if eval_data is None else {"eval_data": _name(eval_data)}
    config = settings.resolve(settings.from_keywords({**named, **held, **options}))
    return run(config, data=data, eval_data=eval_data, policy=policy, quiet=quiet)


def _name(data: preflight.Data) -> str:
    return str(data) if isinstance(data, str | Path) else "in-memory"


def run(
    config: TrainConfig,
    *,
    data: preflight.Data | None = None,
    eval_data: preflight.Data | None = None,
    policy: Policy | None = None,
    quiet: bool = False,
) -> RunResult:
    """Train as ``config`` says; ``data``, ``eval_data`` and ``policy`` stand in for what it names."""
    from accelerate import PartialState

    main = PartialState(cpu=finish.on_cpu()).is_main_process
    display = Display(show=main and not quiet)
    output = Path(config.output) if config.output else default_output(config)
    config = config.model_copy(update={"output": str(output)})
    status = ranks.from_first(_checked(lambda: check_output(output, resume=config.resume)) if main else None)
    if isinstance(status, UserError):
        raise status
    if config.resume:
        config = check_unchanged(config, output)
        if status == "finished":
            display.say(f"the run in {output} is finished; there is nothing to resume")
            return _finished(output)
    machine.prepare_cpu()
    held = eval_data if eval_data is not None else config.eval_data
    return Stages(config, output, display, main).go(data if data is not None else config.data, held, policy)


def _checked(check: Callable[[], Any]) -> Any:
    """The result of a check, or its error: every process has to hear of it."""
    try:
        return check()
    except UserError as error:
        return error


def _finished(output: Path) -> RunResult:
    found = read_json(output / "evaluation.json")
    steps = int(read_json(output / "run.json").get("steps", 0))
    return RunResult("finished", output, steps, output / "model", found.get("before", {}), found.get("after", {}))
