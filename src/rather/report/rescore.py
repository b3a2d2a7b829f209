"""Score a finished run anew: its final model and the model before training, on held-out data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from rather.errors import UserError
from rather.policies.device import inference_device
from rather.policies.pipelines.files import is_pipeline
from rather.report import judged
from rather.report.run_folder import RunFolder

if TYPE_CHECKING:
    import torch

    from rather.data.types import Comparison
    from rather.methods.base import Method
    from rather.objectives.base import Objective
    from rather.policies.base import Policy
    from rather.rewards.base import Judge
    from rather.training.config import TrainConfig


def final_model(run: RunFolder) -> str:
    """The name by which a run's final model is opened: its folder, ``reward:FOLDER`` or ``toy:NAME?weights=FOLDER``.

    Raises:
        UserError: the run has not finished.
    """
    folder = run.path / "model"
    initial = str(run.config.get("model") or run.model_name)
    if not is_pipeline(folder) and not any(
        (folder / name).is_file() for name in ("config.json", "adapter_config.json", "model.safetensors")
    ):
        fix = f"finish it: rather train --config {run.path / 'config.yaml'} --resume"
        raise UserError(f"has no final model (its status is {run.status!r})", where=str(run.path), fix=fix)
    if initial.startswith("toy:") and not is_pipeline(folder):
        return f"{initial}{'&' if '?' in initial else '?'}weights={quote(str(folder))}"
    return f"reward:{folder}" if initial.startswith("reward:") else str(folder)


def rescore(
    run: RunFolder,
    *,
    data: str | None = None,
    limit: int | None = None,
    judge: str | None = None,
    images: int = 16,
    show: bool = True,
) -> dict[str, Any]:
    """Held-out numbers before and after training.

    Both models are compared with the model before training, whatever the reference of the run was; so implicit rewards
    before training are zero and rank by chance. A method without a reference is scored without one.

    Args:
        data: held-out data; the run's own when left out.
        limit: use the first so many comparisons.
        judge: of images, by name; both models draw held-out captions for it, see ``rather.report.judged``. The images are
            kept in ``samples/judged/before`` and ``after`` of the run. A model that was trained to be guided away from
            is: images after training are the first model's, with that guidance.
        images: how many captions are drawn.
        show: progress bars on standard error.

    Returns:
        ``{"before", "after", "data"}``: see ``rather.training.evaluation.evaluate``, and what the data was called.

    Raises:
        UserError: the run has no final model, there is no held-out data that its method can use, the method scores no
            data, or the judge cannot judge what the model makes.
    """

    from rather.methods.registry import get
    from rather.policies.registry import open_policy
    from rather.training import finish
    from rather.training.display import Display
    from rather.training.examine import guided_away
    from rather.training.settings import from_yaml, resolve

    model = final_model(run)
    finish.no_foreign_bars()
    config = resolve(from_yaml(run.path / "config.yaml"))
    method = get(config.method)
    scored = method.wrap is None
    if not scored and judge is None:
        what = f"{method.name} scores what its model makes of the prompts, not the responses of the data"
        fix = "the run's own report has its held-out numbers; --judge scores images"
        raise UserError(what, where=str(run.path), fix=fix)
    comparisons, name = _held_out(config, method, data)
    comparisons = comparisons[:limit]
    device = inference_device()
    initial = open_policy(_plain_settings(config, config.model))
    judged_by = _judge(judge, initial)
    final = open_policy(_plain_settings(config, model))
    before: dict[str, Any] = {}
    after: dict[str, Any] = {}
    if scored:
        before = _evaluate(initial, initial, _objective(method, config, initial), config, comparisons, device, show)
        trained = _objective(method, config, final)
        _restore(trained, run.path)
        after = _evaluate(final, initial, trained, config, comparisons, device, show)
    if judged_by is not None:
        captions = judged.captions_of(comparisons, images)
        sides, guided = [], initial.network if method.negative else None
        with Display(show=show).progress("drawing images", 2 * len(captions)) as advance:
            for side, policy, origin in (("before", initial, None), ("after", final, guided)):
                policy.network.to(device)
                with guided_away(policy, origin):
                    sides.append(judged.draw(policy, captions, config.seed, advance))
                judged.keep(sides[-1], run.path / "samples" / "judged" / side)
        found = judged.judged(judged_by, captions, *sides)
        before, after = before | found["before"], after | found["after"]
    return {"before": before, "after": after, "data": name}


def _judge(name: str | None, policy: Policy) -> Judge | None:
    if name is None:
        return None
    from rather import rewards

    found = rewards.judge(name)
    judged.require_images(policy, found)
    return found


def merge(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """``evaluation.json`` with new numbers; what was measured otherwise (the world, sampled lengths) is kept."""
    sides: dict[str, Any] = {}
    for side in ("before", "after"):
        kept = old.get(side)
        sides[side] = {**(kept if isinstance(kept, dict) else {}), **new[side]}
    return {**old, **new, **sides}


def _held_out(config: TrainConfig, method: Method, data: str | None) -> tuple[Sequence[Comparison], str]:
    from rather.training import preflight

    if data is not None:
        comparisons, _ = preflight.read(data, "--data", strict=config.strict)
        comparisons = preflight.augmented(config, method, comparisons)
        name = data
    else:
        comparisons = preflight.examples(config, method, config.data, config.eval_data).held
        name = config.eval_data or f"{config.data} (held out)"
    if not comparisons:
        raise UserError("the run held out no data", where=config.data, fix="give some: --data FILE")
    preflight.check_data(method, comparisons, f"--data {name}")
    return comparisons, name


def _plain_settings(config: TrainConfig, model: str) -> Any:
    """The run's settings for a model as it is: no fresh adapters, nothing to train."""
    from rather.policies.settings import PolicySettings

    values = {name: getattr(config, name) for name in PolicySettings.model_fields}
    plain = {"lora": False, "gradient_checkpointing": False, "compile": False}
    return PolicySettings(**(values | {"model": model, **plain}))


def _objective(method: Method, config: TrainConfig, policy: Policy) -> Objective:
    from rather.training.learner import ready

    objective = method.build(method.configure(config.method_options))
    ready(method, objective, policy)
    return objective


def _restore(objective: Objective, folder: Path) -> None:
    """Give an objective what it had learned by the last checkpoint (most have nothing to learn)."""
    from rather.training import checkpoints
    from rather.training.state import load_into, trained_state

    if not trained_state(objective):
        return
    checkpoint, _ = checkpoints.latest(folder)
    if checkpoint is not None:
        load_into(objective, checkpoint.tensors("objective"))


def _evaluate(
    policy: Policy,
    initial: Policy,
    objective: Objective,
    config: TrainConfig,
    comparisons: Sequence[Comparison],
    device: torch.device,
    show: bool,
) -> dict[str, Any]:
    from rather.objectives.base import wanted
    from rather.training.display import Display
    from rather.training.evaluation import evaluate
    from rather.training.learner import Learner, encode

    encoded = encode(policy, objective, comparisons)
    if not encoded:
        fix = "a larger --max-length keeps longer ones; rather check DATA names each row and why"
        raise UserError("none of the comparisons can be encoded for this model", where=config.model, fix=fix)
    learner = Learner(policy, objective).to(device)
    wants = wanted(objective)[1]
    reference = _initial_reference(initial, device, wants) if objective.needs_reference else _no_reference()
    return evaluate(
        learner,
        policy,
        reference,
        encoded,
        device=device,
        max_cost=config.eval_max_tokens or 4 * config.max_tokens,
        max_count=config.micro_batch_size,
        progress=Display(show=show).progress,
    )


def _no_reference() -> Any:
    from rather.training.references import Still

    return Still()


def _initial_reference(initial: Policy, device: torch.device, wants: frozenset[str]) -> Any:
    """The model before training as a reference, without a copy of it."""
    import torch

    from rather.training.learner import asked
    from rather.training.references import Still, scoring_mode

    initial.network.to(device)

    class Initial(Still):
        kind = "frozen"

        def score(self, batch: Any, draw: Any) -> Any:
            with torch.no_grad(), scoring_mode(initial.network):
                return initial.score(initial.network, batch, draw, **asked(wants)).detach()

    return Initial()
