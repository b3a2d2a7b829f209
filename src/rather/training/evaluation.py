"""Held-out numbers of a policy: how it ranks, how far it has moved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rather.objectives.base import Objective
from rather.objectives.outcome import Outcome
from rather.objectives.scores import UNITS, Layout, Scores, segment_sum
from rather.policies.base import Draw, Encoded, Policy
from rather.stats import wilson
from rather.training import metrics, ranks
from rather.training.calibration import Calibration
from rather.training.plan import share
from rather.training.reference_cache import Progress
from rather.training.references import Reference, scoring_mode
from rather.training.timesteps import ByTimestep

SEED = 20_170_706
"""Seed of the noise of every evaluation, so that before and after see the same."""


@torch.no_grad()
def evaluate(
    learner: Any,
    policy: Policy,
    reference: Reference,
    encoded: Sequence[Encoded],
    *,
    device: torch.device,
    max_cost: int,
    progress: Progress,
    max_count: int | None = None,
    untrained: Objective | None = None,
) -> dict[str, Any]:
    """Numbers over held-out comparisons, in eval mode.

    A denoising policy is scored at fresh noise that is the same in every evaluation, however the method noises in
    training: so runs and methods can be compared.

    Args:
        untrained: the objective, when the policy is the reference still: then the reference's scores are the policy's
            and no forward pass is needed.

    Returns:
        ``n`` comparisons and ``pairs`` edges; ``accuracy``: share of edges whose winner has the higher implicit reward
        (without edges: of marked responses whose reward has the sign of its mark); ``accuracy/logps`` and
        ``accuracy/logps_mean``: the same by the policy's own log-probability, summed and averaged over elements; ties
        count one half; each with a 95% Wilson interval. ``loss``: as in training, on that draw. ``kl``: half the
        squared log-ratio of policy and reference, summed over the elements of a response, mean over responses (nats):
        the KL divergence to second order, at the tokens of the data; never negative, 0 before training. The rest as in
        training. Of a reward model: what ``Calibration.result`` says, and nothing of log-probabilities. Of a denoising
        policy: ``timesteps``, what ``ByTimestep.result`` says.
    """
    costs, buckets = [item.cost for item in encoded], [item.bucket for item in encoded]
    plan = share(range(len(encoded)), costs, ranks.rank(), ranks.world_size(), max_cost, max_count, buckets)
    totals = _Totals(device, policy)
    with scoring_mode(learner), progress("evaluating", sum(len(m.indices) for m in plan if not m.idle)) as advance:
        for micro in plan:
            batch = policy.collate([encoded[index] for index in micro.indices]).to(device)
            draw = policy.draw(batch, SEED)
            of_reference = reference.score(batch, draw)
            if untrained is not None and of_reference is not None:
                outcome, scores = untrained(of_reference, of_reference, batch.layout), of_reference
            else:
                _, outcome, scores = learner(batch, draw, of_reference, batch.layout.counts())
            totals.add(outcome, scores, of_reference, batch.layout, draw, 0.0 if micro.idle else 1.0)
            if not micro.idle:
                advance(len(micro.indices))
    return totals.result(len(encoded))


class _Totals:
    """Sums and counts over micro-batches and processes; everything is divided once."""

    def __init__(self, device: torch.device, policy: Policy) -> None:
        zeros, provides = torch.zeros, policy.provides
        self.likelihood = "likelihood" in provides
        self.hidden = metrics.hidden(provides)
        self.calibration = Calibration(device) if self.hidden else None
        steps: int | None = getattr(policy, "timesteps", None)
        self.by_timestep = ByTimestep(steps, device) if steps else None
        self.names: tuple[str, ...] = metrics.PAIRED
        self.table = zeros((), dtype=torch.float64, device=device)
        self.ranking = zeros(2, 2, dtype=torch.float64, device=device)
        self.kl = zeros(2, dtype=torch.float64, device=device)
        self.counts = zeros(len(UNITS), dtype=torch.float64, device=device)
        self.terms: dict[tuple[str, str, float], Tensor] = {}

    def add(
        self, outcome: Outcome, scores: Scores, reference: Scores | None, layout: Layout, draw: Draw, weight: float
    ) -> None:
        self.names = metrics.names(outcome)
        self.table = self.table + weight * metrics.sums(outcome, layout)
        own = layout.counts()
        self.counts += weight * self.counts.new_tensor([own[unit] for unit in UNITS])
        for term in outcome.terms:
            key = (term.name, term.unit, term.coefficient)
            self.terms[key] = self.terms.get(key, self.kl.new_zeros(())) + weight * term.values.sum().double()
        if layout.edges:
            logps = outcome.logps.double()
            for row, values in enumerate((logps, logps / layout.lengths.clamp(min=1))):
                difference = values[layout.winner] - values[layout.loser]
                self.ranking[row] += weight * self.kl.new_tensor([metrics.right(difference).sum(), layout.edges])
        if self.calibration is not None:
            self.calibration.add(outcome.margins, weight)
        if self.by_timestep is not None:
            self.by_timestep.add(outcome, scores, reference, layout, draw.timestep, weight)
        if reference is not None and self.likelihood:
            ratio = (scores.elements - reference.elements).double()
            per_response = segment_sum(ratio.square() / 2, scores.response, layout.responses)[layout.compared]
            self.kl += weight * self.kl.new_tensor([per_response.sum(), per_response.numel()])

    def result(self, comparisons: int) -> dict[str, Any]:
        table = ranks.total(self.table)
        counts: dict[str, float] = dict(zip(UNITS, ranks.total(self.counts).tolist(), strict=True))
        found: dict[str, Any] = {"n": comparisons, "pairs": int(counts["edges"])}
        names = dict(zip(self.names, table.tolist(), strict=True))
        right, trials = names["rewards/accuracies"]
        if trials:
            found |= {"accuracy": right / trials, "accuracy/interval": list(wilson(right, trials))}
        ranking = ranks.total(self.ranking).tolist()
        for name, (right, trials) in zip(("accuracy/logps", "accuracy/logps_mean"), ranking, strict=True):
            if trials:
                found |= {name: right / trials, f"{name}/interval": list(wilson(right, trials))}
        keys = list(self.terms)
        sums = ranks.total(torch.stack([self.terms[key] for key in keys])).tolist()
        found["loss"] = sum(
            factor * value / max(counts[unit], 1.0) for (_, unit, factor), value in zip(keys, sums, strict=True)
        )
        means = metrics.means(table, self.names)
        found |= {name: value for name, value in means.items() if name != "rewards/accuracies"}
        if self.calibration is not None:
            found |= self.calibration.result()
        found = {name: value for name, value in found.items() if name.removesuffix("/interval") not in self.hidden}
        total, number = ranks.total(self.kl).tolist()
        if number:
            found["kl"] = total / number
        if self.by_timestep is not None and (bins := self.by_timestep.result()):
            found["timesteps"] = bins
        return found


def row(result: dict[str, Any], step: int, epoch: float) -> dict[str, Any]:
    """The ``metrics.jsonl`` row of an evaluation: numbers under the names that training rows have."""
    values = {key: value for key, value in result.items() if isinstance(value, int | float)}
    if "accuracy" in values:
        values["rewards/accuracies"] = values.pop("accuracy")
    return {"step": step, "split": "eval", "epoch": epoch, **values}
