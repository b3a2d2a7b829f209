"""A whole run: checks, training, evaluation before and after, and the folder that is left."""

from __future__ import annotations

import copy
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from rather.errors import UserError
from rather.objectives.base import wanted
from rather.policies.base import Encoded, Policy
from rather.training import (
    checkpoints,
    evaluation,
    examine,
    finish,
    machine,
    optimisation,
    preflight,
    profile,
    ranks,
    reference_cache,
    references,
    samples,
    settings,
)
from rather.training import world as worlds
from rather.training.config import TrainConfig
from rather.training.display import Display
from rather.training.fit import Fit
from rather.training.learner import Learner, count_parameters, encode, ready
from rather.training.loop import Loop, seed_everything
from rather.training.plan import Plan
from rather.training.record import (
    Record,
    check_metric,
    command,
    now,
    read_json,
    versions,
    write_json,
    write_text,
)
from rather.worlds.catalog import AnswerCheck


@dataclass(frozen=True)
class RunResult:
    """What a run came to.

    Attributes:
        output: the run folder.
        model: the folder of the final weights; ``None`` when the run was interrupted.
        steps: optimizer steps taken in all.
        before, after: held-out numbers (see ``evaluation.evaluate``); empty without held-out data.
    """

    status: Literal["finished", "interrupted"]
    output: Path
    steps: int
    model: Path | None = None
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)


class Stages:
    """The stages of a run, in order; each leaves what the next needs on the object."""

    def __init__(self, config: TrainConfig, output: Path, display: Display, main: bool) -> None:
        self.config, self.output, self.display, self.main = config, output, display, main
        self.started = time.perf_counter()

    def go(self, data: preflight.Data, eval_data: preflight.Data | None, policy: Policy | None) -> RunResult:
        self._read(data, eval_data)
        self._open(policy)
        self._resolve()
        self._start_folder()
        try:
            self._prepare()
            self._before()
            done = self.fit.run()
        except UserError as error:
            self.record.update({"status": "failed", "error": str(error), "finished": now()})
            raise
        except KeyboardInterrupt:
            self.record.update({"status": "interrupted"})
            raise
        return self._after() if done else self._interrupted()

    def _read(self, data: preflight.Data, eval_data: preflight.Data | None) -> None:
        """Data and method, before any weight is loaded."""
        from rather.methods.registry import get

        self.method = get(self.config.method)
        self.examples = preflight.examples(self.config, self.method, data, eval_data)
        for warning in self.examples.warnings:
            self.display.warn(warning)

    def _open(self, policy: Policy | None) -> None:
        """The model, and the data in its numbers."""
        from rather.policies.registry import open_policy

        seed_everything(self.config.seed, 0)
        finish.no_foreign_bars()
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("default", UserWarning)
            self.policy = policy if policy is not None else open_policy(self.config)
        self.opened_here = policy is None
        if self.method.wrap is not None:
            self.policy = self.method.wrap(self.method.configure(self.config.method_options), self.policy)
        self.told = [str(w.message) for w in told if issubclass(w.category, UserWarning)]
        preflight.check_policy(self.method, self.policy.kind, self.policy.provides)
        self.objective = self.method.objective(**self.config.method_options)
        ready(self.method, self.objective, self.policy)
        self.train_set = self._encode(self.examples.train, "train")
        self.held_set = self._encode(self.examples.held, "eval") if self.examples.held else []

    def _encode(self, comparisons: list[Any], name: str) -> list[Encoded]:
        encoded = encode(self.policy, self.objective, comparisons)
        report = getattr(self.policy, "report", None)
        if report is not None and hasattr(report, "summary"):
            self.examples.summary[name]["encoding"] = report.summary()
        if not encoded:
            reasons = "; ".join(report.lines()) if report is not None else "none could be encoded"
            where = "--data" if name == "train" else "--eval-data"
            raise UserError(f"no comparison is left: {reasons}", where=where, fix="see --max-length and --truncation")
        if len(encoded) < len(comparisons):
            self.display.warn(
                f"{len(comparisons) - len(encoded)} of {len(comparisons)} comparisons ({name}) are left out"
            )
        return encoded

    def _resolve(self) -> None:
        """Settings that were left to be chosen, the plan, and what is printed before the start."""
        self.parameters = count_parameters(self.policy.network)
        self.fingerprint = self.policy.fingerprint()  # before anything is trained, wrapped or sharded
        if not self.parameters["trained"]:
            raise UserError("no parameter of the model is trained", where="--model", fix="check the adapter settings")
        probe = self.policy.collate(self.train_set[:1])
        draws = self.policy.draw(probe, 0) is not None
        adapters = self.policy.adapters_off(self.policy.network) is not None
        wants = wanted(self.objective)[1]
        kind = references.choose(self.config, self.objective.needs_reference, adapters, draws, wants)
        rate = self.config.learning_rate
        if rate is None:
            fresh = bool(self.policy.provides & {"reward", "embedding"})
            rate = optimisation.auto_learning_rate(self.config.lora or adapters, self.parameters["total"], fresh)
        self.config = self.config.model_copy(update={"reference": kind, "learning_rate": rate})
        self.plan = Plan(
            [item.cost for item in self.train_set],
            self.config.batch_size,
            self.config.seed,
            self.config.max_tokens,
            self.config.micro_batch_size,
            [item.bucket for item in self.train_set],
        )
        self.total = self.plan.total_steps(self.config.epochs, self.config.max_steps)
        self.objective.plan(self.total)
        self._tell()

    def _tell(self) -> None:
        """What is about to happen, and whether it fits into memory."""
        config, parameters = self.config, self.parameters
        memory = preflight.memory_mb(parameters, config.reference, config.optimizer)
        free = machine.available_memory_mb()
        sizes = f"{parameters['total']:,} parameters, {parameters['trained']:,} trained"
        steps = f"{self.total} of {config.batch_size} comparisons"
        self.display.settings(
            "run",
            {
                "model": f"{config.model} ({sizes})",
                "method": f"{self.method.name}: {self.method.equation}",
                "reference": config.reference,
                "data": f"{len(self.train_set)} training, {len(self.held_set)} held-out comparisons",
                "steps": f"{steps}, {self.plan.steps_per_epoch} in an epoch",
                "learning rate": config.learning_rate,
                "memory": f"{memory:,.0f} MB for weights, gradients and optimizer"
                + (f" ({free:,.0f} MB free)" if free else ""),
                "output": str(self.output),
            },
        )
        if self.objective.couples_batch and len(set(self.plan.buckets or ())) > 1:
            what = f"{self.method.name} compares within a micro-batch, and comparisons of different buckets are never in one"
            self.display.warn(what)
            self.examples.warnings.append(what)
        if free is not None and memory > free + 4 * parameters["total"] / 2**20:
            self.display.warn("that is more memory than there is; --lora needs far less")

    def _start_folder(self) -> None:
        if self.main:
            try:
                self.output.mkdir(parents=True, exist_ok=True)
                write_text(self.output / "config.yaml", settings.dump(self.config))
            except OSError as error:
                raise UserError(
                    f"cannot be written: {error}", where=str(self.output), fix="give another --output"
                ) from None
        self.record = Record(self.output, write=self.main)
        options = self.config.method_options
        described = {"name": self.method.name, "title": self.method.title, "equation": self.method.equation}
        self.record.update(
            {
                "status": "running",
                "command": command(),
                "method": {
                    **described,
                    "source": self.method.source,
                    "citation": self.method.citation,
                    "options": options,
                },
                "versions": versions(),
                "started": self.record.values.get("started", now()),
                "model": {"name": self.config.model, "kind": self.policy.kind, "fingerprint": self.fingerprint},
                "data": self.examples.summary,
                "parameters": self.parameters,
                "reference": self.config.reference,
                "warnings": self.record.values.get("warnings", []),
            }
        )
        for text in [*self.examples.warnings, *self.told]:
            self.record.warn(text)
        for text in self.told:
            self.display.warn(text)

    def _prepare(self) -> None:
        """Wrap and distribute; build the reference from the weights as they are now, before a checkpoint is loaded."""
        accelerator = finish.accelerator(self.config, self.output)
        self.device = accelerator.device
        seed_everything(self.config.seed, 1)
        wants, noising = wanted(self.objective)[1], self.objective.noising
        guides = self.main and self.method.negative and examine.can_guide(self.policy)
        self.origin = copy.deepcopy(self.policy.network).requires_grad_(False) if guides else None
        frozen = references.build_copy(self.config.reference, self.policy, wants, noising)
        learner = Learner(self.policy, self.objective)
        optimizer = optimisation.build_optimizer(learner.network, learner.objective, self.config)
        wrapped, optimizer = accelerator.prepare(learner, optimizer)
        self.outside: dict[str, float] = dict(self.record.values.get("seconds_outside", {}))
        if self.config.reference == "cached":
            # Only what the steps of this run will see: a short run over much data pays for its own comparisons.
            seen = {index for step in range(self.total) for index in self.plan.indices(step)}
            every = [*(self.train_set[index] for index in sorted(seen)), *self.held_set]
            with profile.timed(self.outside, "reference scores"):
                reference, fresh = reference_cache.build_cached(
                    wrapped,
                    self.policy,
                    every,
                    fingerprint=self.fingerprint,
                    device=self.device,
                    max_cost=self.eval_cost,
                    progress=self.display.progress,
                )
            self.display.say(f"reference scores: {fresh} computed, {len(every) - fresh} from the cache")
        else:
            reference = references.build(self.config.reference, wrapped, self.policy, self.config, frozen)
        if frozen is not None:
            frozen.network.to(self.device)
        loop = Loop(
            accelerator, self.policy, wrapped, optimizer, reference, self.train_set, self.plan, self.config, self.total
        )
        self.fit = Fit(loop, self.output, self.record, self.display, self._evaluate if self.held_set else None)
        self.record.update({"world_size": ranks.world_size(), "device": str(self.device)})

    @property
    def eval_cost(self) -> int:
        return self.config.eval_max_tokens or 4 * self.config.max_tokens

    def _evaluate(self, *, before: bool = False) -> dict[str, Any]:
        loop = self.fit.loop
        untrained = before and self.config.reference == "cached" and self._starts_at_reference
        with profile.timed(self.outside, "evaluation"):
            return evaluation.evaluate(
                loop.learner,
                self.policy,
                loop.reference,
                self.held_set,
                device=self.device,
                max_cost=self.eval_cost,
                progress=self.display.progress,
                max_count=self.config.micro_batch_size,
                untrained=self.objective if untrained else None,
            )

    @property
    def _starts_at_reference(self) -> bool:
        """Whether the reference's scores are the policy's before the first step, and all that the objective takes.

        An opened policy may come with an adapter that does something already; one that is opened here has a fresh
        one, or one that the reference has too.
        """
        simple = not wanted(self.objective)[0] and not list(self.objective.parameters())
        return simple and (self.opened_here or self.policy.adapters_off(self.policy.network) is None)

    def _before(self) -> None:
        """Held-out numbers and samples of the model as it was; then the checkpoint, when the run goes on."""
        saved = read_json(self.output / "evaluation.json").get("before") if self.config.resume else None
        self.before: dict[str, Any] = saved or {}
        self.world = examine.known_before(self.output) if self.config.resume else {}
        if self.held_set and not self.before:
            self.before = self._evaluate(before=True)
            check_metric(self.config.best_metric, self.before)
            self._write_evaluation({"before": self.before})
        self.asked = samples.chosen(self.policy, self.held_set, self.config) if self._samples else []
        path = self.output / "samples.jsonl"
        self.answers: list[str] = samples.read_before(path) if self.config.resume else []
        if self.asked and self.main and len(self.answers) != len(self.asked):
            found = samples.sample(self.policy, self.asked, self.config)
            self.answers = [text for text, _ in found]
            self.before["length/sampled"] = sum(length for _, length in found) / len(found)
            self._write_evaluation({"before": self.before})
            samples.write(path, self.asked, self.answers, None)
        if "before" not in self.world:
            self._examine("before", {"before": self.before} if self.before else {})
        ranks.barrier()
        if self.config.resume:
            self._resume()
        else:
            self._start_metrics()

    def _examine(self, when: examine.When, numbers: dict[str, Any]) -> None:
        """Pass rates and picture of a policy that knows its world."""
        if self.main and not finish.is_sharded(self.policy.network):
            draw = self.config.samples
            with examine.guided_away(self.policy, self.origin if when == "after" else None):
                self.world = examine.examine(self.policy, self.output, when, self.world, self.text_world, draw=draw)
            self._write_evaluation(numbers)

    def _write_evaluation(self, numbers: dict[str, Any]) -> None:
        values = {**numbers, **({"world": self.world} if self.world else {})}
        if self.main and values:
            write_json(self.output / "evaluation.json", values)

    @property
    def text_world(self) -> AnswerCheck | None:
        """The world that checks this policy's answers; it shows answers to its own prompts."""
        return worlds.world_of(self.policy, self.config) if self.config.samples else None

    @property
    def _samples(self) -> bool:
        sharded = finish.is_sharded(self.policy.network)
        return self.config.samples and not sharded and self.text_world is None and samples.can_sample(self.policy)

    def _start_metrics(self) -> None:
        """The metrics file as it is before the first step: the evaluation before, if there is one."""
        self.fit.metrics.cut(-1)
        if self.before:
            self.fit.metrics.append(evaluation.row(self.before, 0, 0.0))

    def _resume(self) -> None:
        found, passed_over = checkpoints.latest(self.output)
        for text in passed_over:
            self.display.warn(text)
        if found is None:
            self.display.warn("the run has no checkpoint yet: it starts from the beginning")
            self._start_metrics()
            return
        self.fit.load(found)
        self.fit.metrics.cut(found.step)
        self.display.say(f"going on after step {found.step} of {self.total}")

    def _interrupted(self) -> RunResult:
        done = self.fit.course.done
        self._close({"status": "interrupted", "steps": done})
        finish.report(self.output, self.main, self.display)
        self.display.say(f"saved after step {done} of {self.total}; to go on:")
        self.display.say(f"  rather train --config {self.output / 'config.yaml'} --resume")
        return RunResult("interrupted", self.output, done, None, self.before)

    def _after(self) -> RunResult:
        """Final weights, held-out numbers, samples, card and report."""
        best = self.fit.load_best()
        after: dict[str, Any] = {}
        if self.held_set:
            latest = self.fit.latest
            fresh = best is None and latest is not None and latest[0] == self.fit.course.done
            after = dict(latest[1]) if fresh and latest is not None else self._evaluate()
        if self.asked and self.main:
            found = samples.sample(self.policy, self.asked, self.config)
            after["length/sampled"] = sum(length for _, length in found) / len(found)
            samples.write(self.output / "samples.jsonl", self.asked, self.answers, [text for text, _ in found])
        done_numbers = {"before": self.before, "after": after} if self.before else {}
        self._write_evaluation(done_numbers)
        if self.origin is not None:
            self.display.say("samples after training: the model as it was, guided away from the trained one")
        self._examine("after", done_numbers)
        folder = self.output / "model"
        finish.save_model(self.policy, self.config, folder, self.main)
        done = self.fit.course.done
        self._close({"status": "finished", "finished": now(), "steps": done, "weights_of_step": best or done})
        finish.card(self.output, folder, self.main, self.display)
        report = finish.report(self.output, self.main, self.display)
        if self.config.push_to_hub and self.main:
            finish.push(self.config.push_to_hub, folder, self.display, self.record)
        finish.tell(
            self.display,
            self.policy.kind,
            self.before,
            after,
            self.world,
            {"model": folder, "report": report, "run": self.output},
        )
        return RunResult("finished", self.output, done, folder, self.before, after)

    def _close(self, values: dict[str, Any]) -> None:
        earlier = float(self.record.values.get("seconds", 0.0)) if self.config.resume else 0.0
        seconds = earlier + time.perf_counter() - self.started
        memory = machine.peak_memory_mb()
        outside = {name: round(value, 3) for name, value in self.outside.items()}
        said = {"seconds": round(seconds, 3), "seconds_outside": outside, "peak_memory_mb": memory}
        self.record.update({**values, **said})
        if self.config.profile and self.main:
            self._profile(memory)
        if self.config.trackers:
            self.fit.accelerator.end_training()
        ranks.barrier()

    def _profile(self, memory: float | None) -> None:
        dtype = self.fit.loop.dtype
        peak = profile.matmul_peak(dtype, self.device) * ranks.world_size() if dtype is not None else None
        threads = torch.get_num_threads() * ranks.world_size() if self.device.type == "cpu" else None
        found = profile.summary(self.fit.metrics.rows(), self.outside, memory, peak, threads)
        self.record.update({"profile": found})
        self.display.table("profile", ["", ""], profile.table(found))
