"""The two ends of a run: the accelerator it starts with, and what it leaves: weights, card, report, a last word."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accelerate import Accelerator, DistributedDataParallelKwargs, DistributedType
from torch import nn
from torch.distributed.tensor import DTensor

from rather.errors import UserError
from rather.policies.base import Policy
from rather.rewards.base import TRAINED_BY
from rather.training import ranks, state
from rather.training.config import TrainConfig
from rather.training.display import Display, shown
from rather.training.record import Record, write_json, write_text
from rather.training.world import SINGLE


def on_cpu() -> bool:
    """Whether training is on the CPU: asked for by the launcher, or for want of anything else.

    accelerate has to be told: under a launcher but without a GPU it takes each process for the only one.
    """
    import torch

    asked = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes", "y", "on")
    return asked or not torch.accelerator.is_available()


def accelerator(config: TrainConfig, output: Path) -> Accelerator:
    """The accelerator of the launch configuration, with trackers.

    Number types are the policy's business, so that a score is the same in training, reference and evaluation.

    Raises:
        UserError: a tracker that is not installed, or DeepSpeed or FSDP 1, which own the optimizer step.
    """
    for name in config.trackers:
        if importlib.util.find_spec(name) is None:
            raise UserError(f"the tracker {name!r} is not installed", where="--report-to", fix=f"pip install {name}")
    trackers: Any = config.trackers or None
    handlers: Any = [DistributedDataParallelKwargs(broadcast_buffers=False)]
    found = Accelerator(cpu=on_cpu(), log_with=trackers, project_dir=str(output), kwargs_handlers=handlers)
    if found.distributed_type in (DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM):
        raise UserError(
            f"{found.distributed_type.value} is not supported", where="accelerate config", fix="use FSDP2 or DDP"
        )
    if found.distributed_type == DistributedType.FSDP and not found.is_fsdp2:
        raise UserError("FSDP version 1 is not supported", where="accelerate config", fix="set fsdp_version: 2")
    if trackers:
        plain = {k: v for k, v in config.flat().items() if isinstance(v, str | int | float | bool)}
        found.init_trackers("rather", config=plain)
    return found


def no_foreign_bars() -> None:
    """Switch off the progress bars of transformers: each command shows its own."""
    from transformers.utils import logging

    logging.disable_progress_bar()


def is_sharded(network: nn.Module) -> bool:
    return any(isinstance(parameter, DTensor) for parameter in network.parameters())


def save_model(policy: Policy, config: TrainConfig, folder: Path, main: bool) -> None:
    """Write the final weights beside and rename; sharded ones are put together in a fresh copy of the model."""
    source, network = policy, policy.network
    if is_sharded(network):
        tensors = state.gather(network)
        if main:
            from rather.policies.registry import open_policy

            source = open_policy(config)
            network = source.network
            state.load_into(network, tensors)
    if main:
        partial = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        try:
            source.save(network, partial)
            write_json(partial / TRAINED_BY, {"method": config.method, "options": config.method_options})
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(partial, folder)
        except OSError as error:
            shutil.rmtree(partial, ignore_errors=True)
            fix = "free some space; --resume goes on from the last checkpoint"
            raise UserError(f"the model cannot be written: {error}", where=str(folder), fix=fix) from error
    ranks.barrier()


def card(output: Path, folder: Path, main: bool, display: Display) -> None:
    """The model card; a card that cannot be made is no reason to fail a run that is done."""
    if not main:
        return
    from rather.report.card import model_card

    try:
        write_text(folder / "README.md", model_card(output))
    except Exception as error:
        display.warn(f"no model card: {error}")


def report(output: Path, main: bool, display: Display) -> Path | None:
    """Build the report; as for the card, a failure is told and the run is done all the same."""
    if not main:
        return None
    from rather.report.build import build_report

    try:
        return Path(build_report(output))
    except Exception as error:
        display.warn(f"no report: {error}; `rather report {output}` tries again")
        return None


def push(repository: str, folder: Path, display: Display, record: Record) -> None:
    """Upload the final model; a failure is told, and the run is finished all the same."""
    from huggingface_hub import HfApi

    try:
        api = HfApi()
        api.create_repo(repository, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=str(folder))
        display.say(f"pushed to {repository}")
    except Exception as error:
        text = f"the model was not pushed to {repository}: {error}"
        display.warn(text)
        record.warn(text)


ROWS = (
    ("accuracy", "ranking accuracy (implicit reward)"),
    ("accuracy/logps", "ranking accuracy (log-probability)"),
    ("loss", "loss"),
    ("log_loss", "log-loss of the order"),
    ("calibration_error", "calibration error"),
    ("rewards/margins", "reward margin"),
    ("logps/chosen", "log-probability, chosen"),
    ("logps/rejected", "log-probability, rejected"),
    ("kl", "KL to the reference"),
    ("length/sampled", "length of sampled answers"),
)


def tell(
    display: Display,
    kind: str,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    world: Mapping[str, Any],
    paths: Mapping[str, Path | None],
) -> None:
    """The table of held-out numbers, and where everything is.

    Args:
        kind: of the model, for the words.
        world: what programs found when they checked the model's own answers (``examine.examine``).
    """
    score = "score" if kind in ("diffusion", "flow") else "log-probability"
    rows = []
    for name, label in (("pass_rate", "own answers that pass every check"), (SINGLE, "single checks passed")):
        if any(name in found for found in world.values()):
            rows.append([label, *(_checked(world, when, name) for when in ("before", "after"))])
        if (after_training := world.get("after", {}).get(name, {})).get("change") is not None:
            rows.append(["  change, answer by answer", "", _change(after_training)])
    rows += [
        [label.replace("log-probability", score), _with_interval(before, key), _with_interval(after, key)]
        for key, label in ROWS
        if key in before or key in after
    ]
    if rows:
        number = before.get("n") or after.get("n")
        title = f"held out ({number} comparisons)" if number else "samples"
        display.table(title, ["", "before", "after"], rows)
    display.settings("done", {name: str(path) for name, path in paths.items() if path is not None})


def _checked(world: Mapping[str, Any], when: str, name: str) -> str:
    found = world.get(when, {}).get(name)
    return _with_interval({"rate": found["rate"], "rate/interval": found["interval"]}, "rate") if found else "-"


def _change(entry: Mapping[str, Any]) -> str:
    points, (low, high) = 100 * entry["change"], (100 * bound for bound in entry["change/interval"])
    return f"{points:+.1f} ({low:+.1f} to {high:+.1f})"


def _with_interval(values: Mapping[str, Any], key: str) -> str:
    value, interval = values.get(key), values.get(f"{key}/interval")
    if value is None:
        return "-"
    if interval:
        return f"{100 * value:.1f}% ({100 * interval[0]:.1f} to {100 * interval[1]:.1f})"
    return shown(float(f"{value:.4g}"))
