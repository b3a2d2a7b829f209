"""The course of a run: steps, with logging, evaluation, checkpoints and stopping between them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from rather.errors import UserError
from rather.policies.base import Encoded
from rather.training import checkpoints, evaluation, metrics, ranks, state
from rather.training.display import Display, Steps
from rather.training.guards import Watch
from rather.training.interrupt import on_interrupt
from rather.training.loop import Loop, NotFinite, Step
from rather.training.record import Record, check_metric, write_json

WORK = ("tokens/computed", "tokens/needed", "flops")
"""What a row says of its work (``rather.policies.work``); operations only where the policy can tell them."""

MARKED_STEPS = 4  # evaluations of a run under eval_steps: auto


@dataclass
class Course:
    """What a run carries from step to step beside weights and optimizer; saved in each checkpoint.

    Attributes:
        done: optimizer steps taken.
        window: sums of the steps since the last logged row.
        best: value and step of the best evaluation so far.
        worse: evaluations since then.
        stopped: ended early.
    """

    done: int = 0
    tokens: int = 0
    window: dict[str, Any] = field(default_factory=dict)
    best: tuple[float, int] | None = None
    worse: int = 0
    stopped: bool = False


class Fit:
    """Runs a ``Loop`` from where ``course`` stands to its end.

    Args:
        evaluate: held-out numbers of the present weights, or ``None`` without held-out data.
        modules: what a checkpoint holds: ``model`` and ``objective``.
    """

    def __init__(
        self,
        loop: Loop,
        output: Path,
        record: Record,
        display: Display,
        evaluate: Callable[[], dict[str, Any]] | None,
    ) -> None:
        self.loop, self.output, self.record, self.display, self.evaluate = loop, output, record, display, evaluate
        self.config, self.accelerator = loop.config, loop.accelerator
        self.main = ranks.rank() == 0
        self.course, self.watch, self.pace = Course(), Watch(), checkpoints.Pace()
        self.metrics = metrics.MetricsFile(output / "metrics.jsonl", write=self.main)
        self.modules = {"model": loop.inner.network, "objective": loop.inner.objective}
        every = self.config.eval_steps
        self.eval_steps = max(1, math.ceil(loop.total / MARKED_STEPS)) if every == "auto" else every
        self.saved_at = -1
        self.latest: tuple[int, dict[str, Any]] | None = None  # step and result of the last evaluation
        self._last_save = time.perf_counter()

    def run(self) -> bool:
        """Take the remaining steps; False when the run was interrupted (and saved).

        Raises:
            UserError: a loss or gradient was not finite; the comparisons are in ``nonfinite.json``.
        """
        with self.display.steps(self.loop.total, self.course.done) as bar, on_interrupt(self._ask_to_stop):
            while self.course.done < self.loop.total and not self.course.stopped:
                try:
                    result = self.loop.step(self.course.done)
                except NotFinite as error:
                    raise self._non_finite(error) from None
                self.course.done += 1
                self._log(result, bar)
                if self._evaluation_due():
                    self._evaluate()
                if result.stop:
                    self.save()
                    return False
                if self._save_due():
                    self.save()
        if self.config.save_steps != 0 and self.saved_at > 0 and self.saved_at != self.course.done:
            self.save()  # the rest (evaluation, final weights) may be interrupted too
        return True

    def _ask_to_stop(self) -> bool:
        self.loop.stop_asked = True
        self.display.say("stopping after this step; once more to stop at once")
        return True

    def _log(self, result: Step, bar: Steps) -> None:
        step = self.course.done
        self.course.tokens += result.tokens
        window = self.course.window
        _add(window, result)
        if notice := self.watch.gradient(step, result.norm):
            self._notice(notice)
        if step % self.config.logging_steps and step != self.loop.total:
            return
        steps = window["steps"]
        means = metrics.means(torch.tensor(window["table"], dtype=torch.float64), result.names)
        hidden = metrics.hidden(self.loop.policy.provides)
        row = {
            "step": step,
            "split": "train",
            "epoch": round(step / self.loop.plan.steps_per_epoch, 6),
            "lr": result.rate,
            "loss": window["loss"] / steps,
            **{name: value for name, value in means.items() if name not in hidden},
            "grad_norm": window["norm"] / steps,
            "tokens": window["tokens"],
            **{name: window[name] for name in WORK if window.get(name)},
            "seconds": sum(window["seconds"].values()),
            "seconds_cpu": window["cpu"],
            **{f"seconds/{name}": value for name, value in window["seconds"].items()},
        }
        self.course.window = {}
        self.metrics.append(row)
        self._track(row)
        bar.advance(row)
        if notice := self.watch.row(row):
            self._notice(notice)

    def _track(self, row: Mapping[str, Any]) -> None:
        if self.config.trackers:
            prefix = "eval/" if row["split"] == "eval" else ""
            values = {f"{prefix}{k}": v for k, v in row.items() if isinstance(v, int | float) and k != "step"}
            self.accelerator.log(values, step=int(row["step"]))

    def _notice(self, text: str) -> None:
        self.display.warn(text)
        self.record.warn(text)

    def _evaluation_due(self) -> bool:
        step = self.course.done
        # The end of the run is evaluated anyway, and that evaluation takes part in the choice of the best.
        return self.evaluate is not None and (
            step == self.loop.total or (self.eval_steps > 0 and step % self.eval_steps == 0)
        )

    def _evaluate(self) -> None:
        assert self.evaluate is not None
        result = self.evaluate()
        self.latest = (self.course.done, result)
        check_metric(self.config.best_metric, result)
        row = evaluation.row(result, self.course.done, round(self.course.done / self.loop.plan.steps_per_epoch, 6))
        self.metrics.append(row)
        self._track(row)
        value = float(result[self.config.best_metric])
        sign = -1.0 if self.config.lower_is_better else 1.0
        if self.course.best is None or sign * value > sign * self.course.best[0]:
            self.course.best, self.course.worse = (value, self.course.done), 0
            if self.keeps_best:
                self._save_best()
        else:
            self.course.worse += 1
        patience = self.config.early_stopping_patience
        if patience and self.course.worse >= patience and self.course.done < self.loop.total:
            self.course.stopped = True
            self.display.say(
                f"stopped early at step {self.course.done}: {self.config.best_metric} has not improved on "
                f"{self.course.best[0]:.4g} (step {self.course.best[1]}) for {patience} evaluations"
            )

    @property
    def keeps_best(self) -> bool:
        return self.config.final_model == "best" or self.config.early_stopping_patience is not None

    def _best_folder(self, step: int) -> Path:
        return self.output / "checkpoints" / f"{checkpoints.BEST}-{step:08d}"

    def _save_best(self) -> None:
        parts = {name: state.gather(module) for name, module in self.modules.items()}
        if self.main:
            checkpoints.write(self._best_folder(self.course.done), {"step": self.course.done}, parts)
        ranks.barrier()

    def load_best(self) -> int | None:
        """Put the best weights in place; the step they are of, ``None`` when they are the last ones."""
        if not self.keeps_best or self.course.best is None or self.course.best[1] == self.course.done:
            return None
        found = checkpoints.read(self._best_folder(self.course.best[1]))
        for name, module in self.modules.items():
            state.load_into(module, found.tensors(name))
        return self.course.best[1]

    def _save_due(self) -> bool:
        every = self.config.save_steps
        if every == "auto":
            return bool(ranks.from_first(self.pace.due(time.perf_counter() - self._last_save)))
        return every > 0 and self.course.done % every == 0 and self.course.done < self.loop.total

    def save(self) -> None:
        """Write a checkpoint of the present state."""
        if self.saved_at == self.course.done:
            return
        start = time.perf_counter()
        parts = {name: state.gather(module) for name, module in self.modules.items()}
        parts["optimizer"] = state.gather_optimizer(_bare(self.loop.optimizer), self.modules)
        parts["reference"] = {name: state.whole(tensor) for name, tensor in self.loop.reference.state().items()}
        if self.main:
            values = {"step": self.course.done, "course": vars(self.course), "watch": self.watch.state()}
            checkpoints.write(checkpoints.path_of(self.output, self.course.done), values, parts)
            checkpoints.prune(
                self.output, self.config.keep_checkpoints, self.course.best[1] if self.course.best else None
            )
        ranks.barrier()
        self.saved_at = self.course.done
        self._last_save = time.perf_counter()
        self.pace.took(self._last_save - start)

    def load(self, found: checkpoints.Checkpoint) -> None:
        """Go on from a checkpoint.

        Raises:
            UserError: it is of another model.
        """
        try:
            for name, module in self.modules.items():
                state.load_into(module, found.tensors(name))
            state.load_optimizer(_bare(self.loop.optimizer), self.modules, found.tensors("optimizer"))
            self.loop.reference.load(found.tensors("reference"))
        except (ValueError, KeyError) as error:
            fix = "the model or the library has changed since; give another --output"
            raise UserError(f"does not fit the model: {error}", where=str(found.folder), fix=fix) from None
        course = dict(found.state["course"])
        course["best"] = tuple(course["best"]) if course["best"] else None
        self.course = Course(**course)
        self.watch.load(found.state["watch"])
        self.saved_at = self.course.done

    def _non_finite(self, error: NotFinite) -> UserError:
        """The error that names the comparisons that broke the step."""
        found = self.loop.offenders(self.course.done)
        alone = bool(found)
        items: Sequence[Encoded] = [self.loop.encoded[i] for i in self.loop.plan.indices(self.course.done)]
        found = found or [{"id": item.comparison.id, "source": _source(item)} for item in items]
        path = self.output / "nonfinite.json"
        values = {"step": error.step, "loss": metrics.finite(error.loss), "grad_norm": metrics.finite(error.norm)}
        if self.main:
            write_json(path, {**values, "alone": alone, "examples": found})
        names = ", ".join(f"{e['id']} ({e['source']})" if e["source"] else str(e["id"]) for e in found[:3])
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        cause = (
            "look at these rows" if alone else "no row does it alone: lower --learning-rate, or use --precision fp32"
        )
        fix = f"{cause}; details are in {path}; weights are as they were before the step"
        return UserError(
            f"loss or gradient is not finite at step {error.step}: {names}{more}", where=str(self.output), fix=fix
        )


def _source(item: Encoded) -> str | None:
    return str(item.comparison.source) if item.comparison.source else None


def _bare(optimizer: Any) -> torch.optim.Optimizer:
    """The optimizer inside accelerate's wrapper."""
    return getattr(optimizer, "optimizer", optimizer)


def _work(result: Step) -> tuple[float, ...]:
    return result.work.computed, result.work.needed, result.work.forward + result.work.backward


def _add(window: dict[str, Any], result: Step) -> None:
    """Add a step to the sums of a row that is not yet written."""
    table = result.table if not window else torch.tensor(window["table"], dtype=torch.float64) + result.table
    seconds = dict(window.get("seconds", {}))
    for name, value in result.seconds.items():
        seconds[name] = seconds.get(name, 0.0) + value
    window.update(
        steps=window.get("steps", 0) + 1,
        loss=window.get("loss", 0.0) + result.loss,
        norm=window.get("norm", 0.0) + result.norm,
        tokens=window.get("tokens", 0) + result.tokens,
        **{name: window.get(name, 0) + value for name, value in zip(WORK, _work(result), strict=True)},
        table=table.tolist(),
        cpu=window.get("cpu", 0.0) + result.cpu,
        seconds=seconds,
    )
