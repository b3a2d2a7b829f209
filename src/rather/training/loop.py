"""One optimizer step: the same for every policy, method, reference and number of processes."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from rather.objectives.scores import UNITS, stable_key
from rather.policies.base import Batch, Draw, Encoded, Policy
from rather.policies.work import Work, work_of
from rather.training import metrics, optimisation, ranks
from rather.training.config import TrainConfig
from rather.training.drawing import make_draw
from rather.training.learner import Learner, trained_parameters
from rather.training.plan import MicroBatch, Plan
from rather.training.references import Reference


@dataclass
class Step:
    """What a step did; sums over all processes.

    Attributes:
        table: sums and counts of the metrics ``names``, see ``metrics.sums``.
        loss: the step's loss, already a mean.
        norm: norm of the gradient before clipping.
        tokens: cost of the comparisons.
        work: positions computed and needed; operations that a forward and backward pass need.
        seconds: by phase, of this process.
        cpu: seconds that the threads of this process ran, all together.
        stop: whether any process was asked to stop.
    """

    loss: float
    norm: float
    rate: float
    table: Tensor
    names: tuple[str, ...]
    tokens: int
    work: Work
    seconds: dict[str, float] = field(default_factory=dict)
    cpu: float = 0.0
    stop: bool = False


class NotFinite(Exception):
    """The loss or a gradient of a step is not finite; raised before the optimizer has moved anything."""

    def __init__(self, step: int, loss: float, norm: float) -> None:
        super().__init__(f"step {step}: loss {loss}, gradient norm {norm}")
        self.step, self.loss, self.norm = step, loss, norm


class Loop:
    """Takes optimizer steps.

    Args:
        learner: prepared by ``accelerator``.
        total: steps of the whole run, for the learning-rate schedule.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        policy: Policy,
        learner: Any,
        optimizer: Any,
        reference: Reference,
        encoded: Sequence[Encoded],
        plan: Plan,
        config: TrainConfig,
        total: int,
    ) -> None:
        self.accelerator, self.policy, self.learner, self.reference = accelerator, policy, learner, reference
        self.optimizer = optimizer
        self.inner: Learner = accelerator.unwrap_model(learner)
        self.encoded, self.plan, self.config, self.total = encoded, plan, config, total
        self.device = accelerator.device
        self.stop_asked = False
        self.names: tuple[str, ...] = metrics.PAIRED
        self.dtype: torch.dtype | None = None  # of the policy's products, where it tells

    def batches(self, step: int) -> list[tuple[MicroBatch, Batch]]:
        micro = self.plan.step(step, ranks.rank(), ranks.world_size())
        return [(m, self.policy.collate([self.encoded[i] for i in m.indices])) for m in micro]

    def _work(self, micro: MicroBatch, batch: Batch) -> Work:
        return Work(0, 0) if micro.idle else work_of(self.policy, [self.encoded[i] for i in micro.indices], batch)

    def draw_seed(self, step: int) -> int:
        """Seed of the noise of a step: each example has new noise in each epoch, wherever in it the example is."""
        return stable_key(f"{self.config.seed}/{self.plan.epoch(step)}")

    def draw(self, batch: Batch, step: int) -> Draw:
        """The randomness of a batch of the 0-based ``step``, as the objective's noising asks."""
        noising = self.inner.objective.noising
        return make_draw(self.policy, self.learner, self.reference, noising, batch, self.draw_seed(step))

    def step(self, step: int) -> Step:
        """Take the 0-based ``step``.

        Raises:
            NotFinite: and nothing was changed.
        """
        clock, ran = Clock(self.device if self.config.profile else None), time.process_time()
        seed_everything(self.config.seed, step, ranks.rank())
        self.learner.train()
        self.optimizer.zero_grad(set_to_none=True)
        batches = self.batches(step)
        local: dict[str, float] = dict.fromkeys(UNITS, 0.0)
        for micro, batch in batches:
            if not micro.idle:
                local = {unit: local[unit] + number for unit, number in batch.layout.counts().items()}
        counts = ranks.total_counts(local, self.device)
        clock.lap("data")
        loss, table, observations = self._accumulate(step, batches, counts, clock)
        norm = optimisation.clip(trained_parameters(self.inner), self.config.max_grad_norm)
        tokens = sum(self.encoded[i].cost for micro, _ in batches if not micro.idle for i in micro.indices)
        work = sum((self._work(micro, batch) for micro, batch in batches), Work(0, 0))
        numbers = [loss, tokens, self.stop_asked, work.computed, work.needed, work.forward, work.backward]
        # One reduction says everything that the processes have to agree on before they move.
        said = ranks.total(torch.cat([table.flatten(), table.new_tensor([float(number) for number in numbers])]))
        *flat, loss_sum, tokens_sum, stop, computed, needed, forward, backward = said.tolist()
        if not (math.isfinite(loss_sum) and math.isfinite(norm)):
            raise NotFinite(step + 1, loss_sum, norm)
        rate = optimisation.set_rate(self.optimizer, optimisation.rate_factor(self.config, step, self.total))
        self.optimizer.step()
        names = sorted(observations)
        joined = {name: ranks.join(torch.cat(observations[name]), self.device) for name in names}
        self.inner.objective.advance(joined)
        self.reference.advance(step + 1)
        clock.lap("optimizer")
        reduced = torch.tensor(flat, dtype=torch.float64).reshape(table.shape)
        self.dtype = work.dtype
        work = Work(int(computed), int(needed), forward, backward, work.dtype)
        return Step(
            loss_sum,
            norm,
            rate,
            reduced,
            self.names,
            int(tokens_sum),
            work,
            clock.seconds,
            time.process_time() - ran,
            stop > 0,
        )

    def _accumulate(
        self, step: int, batches: Sequence[tuple[MicroBatch, Batch]], counts: dict[str, float], clock: Clock
    ) -> tuple[Tensor, Tensor, dict[str, list[Tensor]]]:
        """Backward over the micro-batches; returns the loss (float64), the metric sums and the observations."""
        loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        table = torch.zeros((), dtype=torch.float64, device=self.device)
        observations: dict[str, list[Tensor]] = {}
        for number, (micro, cpu_batch) in enumerate(batches):
            batch = cpu_batch.to(self.device)
            draw = self.draw(batch, step)
            reference = self.reference.score(batch, draw)
            clock.lap("reference")
            last = number == len(batches) - 1
            with nullcontext() if last else self.accelerator.no_sync(self.learner):
                loss, outcome, _ = self.learner(batch, draw, reference, counts)
                found, self.names = metrics.sums(outcome, batch.layout), metrics.names(outcome)
                table = table + (torch.zeros_like(found) if micro.idle else found)
                clock.lap("forward")
                # Gradients are averaged over processes, the loss is already a share of the whole: undo the average.
                self.accelerator.backward(loss * (0.0 if micro.idle else float(ranks.world_size())))
            if not micro.idle:
                loss_sum += loss.detach().double()
                for name, values in outcome.observations.items():
                    observations.setdefault(name, []).append(values.detach())
            else:
                for name, values in outcome.observations.items():
                    observations.setdefault(name, []).append(values.detach()[:0])
            clock.lap("backward")
        return loss_sum, table, observations

    def offenders(self, step: int) -> list[dict[str, Any]]:
        """The comparisons of the 0-based ``step`` that alone give a loss or gradient that is not finite."""
        mine = [i for micro, _ in self.batches(step) if not micro.idle for i in micro.indices]
        passes = max(ranks.all_of(len(mine)))
        found = []
        for number in range(passes):
            item = self.encoded[mine[min(number, len(mine) - 1)] if mine else self.plan.indices(step)[0]]
            batch = self.policy.collate([item]).to(self.device)
            draw = self.draw(batch, step)
            self.optimizer.zero_grad(set_to_none=True)
            with self.accelerator.no_sync(self.learner):
                loss, outcome, _ = self.learner(batch, draw, self.reference.score(batch, draw), batch.layout.counts())
                self.accelerator.backward(loss)
            gradients = [p.grad for p in trained_parameters(self.inner) if p.grad is not None]
            sound = bool(loss.isfinite()) and all(bool(g.isfinite().all()) for g in gradients)
            if not sound and number < len(mine):
                source = item.comparison.source
                found.append(
                    {
                        "id": item.comparison.id,
                        "source": str(source) if source else None,
                        "loss": metrics.finite(float(loss.detach())),
                        "logps": [metrics.finite(value) for value in outcome.logps.tolist()],
                        "rewards": [metrics.finite(value) for value in outcome.rewards.tolist()],
                    }
                )
        self.optimizer.zero_grad(set_to_none=True)
        return [entry for part in ranks.all_of(found) for entry in part]


class Clock:
    """Seconds by phase.

    Args:
        wait_for: a device whose queue is waited for at each lap; without it a phase that only queues work looks short.
    """

    def __init__(self, wait_for: torch.device | None = None) -> None:
        self.seconds: dict[str, float] = {}
        self.device = wait_for if wait_for is not None and wait_for.type != "cpu" else None
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        if self.device is not None:
            torch.accelerator.synchronize(self.device)
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last
        self._last = now


def seed_everything(*parts: int) -> None:
    """Seed torch, numpy and python from the parts, so that a step's randomness is a function of them alone."""
    key = stable_key("/".join(map(str, parts)))
    torch.manual_seed(key)
    np.random.seed(key % 2**32)
    random.seed(key)
