"""``rather`` under measurement: ``rather.train`` itself, from given token ids, stopped after its last step.

What is timed is the loop's own step, with collation, logging and optimizer, as a user gets it; and the pass that
fills the reference cache.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from benchmarks.job import PACKED, Job, Result, Timed
from benchmarks.meter import Meter, Positions, count_parameters, timed_forward
from benchmarks.tokens import read
from rather.data.types import Comparison
from rather.policies.encoding_report import EncodingReport
from rather.policies.language import LanguagePolicy
from rather.policies.lora import add_lora
from rather.policies.models import load_causal_lm, load_tokenizer
from rather.policies.settings import PolicySettings
from rather.policies.tokenization import Tokens
from rather.training import machine, reference_cache
from rather.training.loop import Loop
from rather.training.plan import epoch_order
from rather.training.references import scoring_mode
from rather.training.run import train

LIBC_DEFAULT = {"MALLOC_TOP_PAD_": "131072"}
"""A glibc tunable at its default value: whoever sets one keeps ``rather`` from tuning the allocator."""


class _Done(Exception):
    """All steps are taken; what ``rather.train`` does after them is not measured."""


class GivenIds:
    """Stands in for a policy's text encoder: the comparisons hold ids already.

    Args:
        apart: give every response a prompt of its own.
    """

    def __init__(self, apart: bool) -> None:
        self.apart = apart

    def encode(
        self, comparisons: Sequence[Comparison], report: EncodingReport, **options: Any
    ) -> list[tuple[Comparison, tuple[Tokens, ...]]]:
        report.comparisons = report.encoded = len(comparisons)
        return [(each, self._parts(each)) for each in comparisons]

    def _parts(self, comparison: Comparison) -> tuple[Tokens, ...]:
        prompt = np.asarray(comparison.prompt, np.int32)
        responses = tuple(np.asarray(response, np.int32) for response in comparison.responses)
        return tuple(Tokens(prompt, (each,)) for each in responses) if self.apart else (Tokens(prompt, responses),)


def open_given(network: Any, job: Job, settings: PolicySettings) -> LanguagePolicy:
    """A policy around the network that reads token ids, in the form that the job dictates, if it does."""
    policy = LanguagePolicy(network, load_tokenizer(job.model), settings)
    policy.encoder = GivenIds(apart=job.form == PACKED)  # type: ignore[assignment]
    if job.form not in (None, PACKED):
        policy.form = job.form  # type: ignore[assignment]
    return policy


class Watch:
    """Marks of the clock at the steps of ``rather.train``."""

    def __init__(self, job: Job, meter: Meter, positions: Positions) -> None:
        self.job, self.meter, self.positions = job, meter, positions
        self.steps: list[Timed] = []
        self.reference: dict[str, float] | None = None
        self.entries: Mapping[str, reference_cache.Entry] = {}
        self.memory: dict[str, float] = {}
        self.scoring: dict[str, dict[str, float]] | None = None
        self._mark: tuple[float, float] | None = None

    @contextmanager
    def looking(self) -> Iterator[None]:
        step, build = Loop.step, reference_cache.build_cached

        def timed_step(loop: Loop, number: int) -> Any:
            return self._step(loop, number, step)

        def timed_build(*args: Any, **options: Any) -> Any:
            start = self.meter.now()
            found = build(*args, **options)
            self.reference = self.meter.since(start)
            self.entries = found[0].entries
            return found

        with patch.object(Loop, "step", timed_step), patch.object(reference_cache, "build_cached", timed_build):
            yield

    def _step(self, loop: Loop, number: int, step: Callable[[Loop, int], Any]) -> Any:
        if self._mark is None:
            self.positions.take()
            self._mark = self.meter.now()
        found = step(loop, number)
        taken = self.meter.since(self._mark)
        self._mark = self.meter.now()
        self.steps.append(Timed(taken["wall"], taken["cpu"], found.loss, self.positions.take()))
        if len(self.steps) == self.job.total:
            self.memory = self.meter.memory()
            self.scoring = self._score(loop) if self.job.scoring else None
            raise _Done
        return found

    def _score(self, loop: Loop) -> dict[str, dict[str, float]]:
        """Forward passes over the comparisons of the first step."""
        batches = [batch.to(loop.device) for _, batch in loop.batches(0)]

        def training() -> None:
            loop.learner.train()
            for batch in batches:
                loop.learner(batch, None, loop.reference.score(batch, None), batch.layout.counts())

        def scoring() -> None:
            with torch.no_grad(), scoring_mode(loop.learner):
                for batch in batches:
                    loop.learner(batch, None)

        return {"train": timed_forward(self.meter, training), "score": timed_forward(self.meter, scoring)}


def run(job: Job) -> Result:
    """Train as the job says, in this process."""
    meter = Meter()
    ids = read(job.tokens)
    if job.allocator:
        machine.prepare_cpu()
    network: Any = load_causal_lm(job.model, "float32").to(meter.device)  # type: ignore[arg-type]
    meter.loaded()
    fields = {name: value for name, value in job.settings.items() if name in PolicySettings.model_fields}
    settings = PolicySettings.model_validate(
        {"model": job.model, "precision": job.precision, "lora": job.lora, "max_length": 1 << 20, **fields}
    )
    if job.lora:
        with nullcontext() if job.fused else patch("rather.policies.lora_layers.fuse"):
            network = add_lora(network, settings, seed=job.seed)
    positions = Positions(network)
    policy = open_given(network, job, settings)
    watch = Watch(job, meter, positions)
    others = {name: value for name, value in job.settings.items() if name not in fields}
    with tempfile.TemporaryDirectory() as folder:
        # A cache of its own, so that reference scores are computed and not found.
        environment = {"RATHER_CACHE": folder, **({} if job.allocator else LIBC_DEFAULT)}
        with patch.dict(os.environ, environment), watch.looking(), suppress(_Done):
            train(policy, [each.comparison() for each in ids], quiet=True, **_settings(job, Path(folder)), **others)
    ordered = [ids[i] for i in epoch_order(job.seed, 0, len(ids))]
    needed = [sum(each.needed for each in ordered[s * job.batch : (s + 1) * job.batch]) for s in range(job.total)]
    sums = [_sums(watch.entries[each.id]) for each in ordered] if watch.entries else []
    return Result(
        steps=watch.steps,
        needed=needed,
        reference=watch.reference,
        memory=watch.memory,
        scoring=watch.scoring,
        parameters=count_parameters(network),
        device=str(meter.device),
        reference_logps=[(first, other) for first, *others in sums for other in others] or None,
        notes=[f"form: {job.form or policy.form}"],
    )


def _sums(entry: reference_cache.Entry) -> list[float]:
    """Log-probability of each response of a comparison."""
    return [float(part.double().sum()) for part in entry.elements.split(entry.counts.tolist())]


def _settings(job: Job, folder: Path) -> dict[str, Any]:
    """Settings of the run: what every contender has, and nothing before or after the steps."""
    return {
        "beta": job.beta,
        "batch_size": job.batch,
        "max_steps": job.total,
        "learning_rate": job.learning_rate,
        "lr_schedule": job.schedule,
        "warmup_ratio": 0.0,
        "seed": job.seed,
        "eval_fraction": 0.0,
        "samples": False,
        "save_steps": 0,
        "output": str(folder / "run"),
    }
