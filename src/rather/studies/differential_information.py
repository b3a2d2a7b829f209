"""Differential information, arXiv 2505.23761: is DPO's log-ratio the one reward that recovers the target?

Claim. If the rejected responses come from pi_l ~ ref (ref / pi*)^beta, the labels carry exactly the step from the reference
to the target pi*, and Bradley-Terry training of DPO's log-ratio reward ends at pi*; other rewards, and other rejected
responses, end elsewhere. The entropy of the differential information q ~ pi* / ref tells how far chosen responses lose
probability: they must, since E_ref[log pi - log ref] = -KL(ref || pi).

World. 32 responses, ref = softmax(N(0, 1)), pi* ~ ref exp(N(0, 1)), beta = 0.5. Chosen responses come from ref, the rejected
ones from the optimal pi_l, a uniform one, or ref itself; the population of all pairs is the data, each with its probability.
The policy is a table of logits started at ref, trained with Adam at 0.02, decayed by a cosine to 0 over 3,000 steps.

Arms. Rewards: DPO's beta log(pi / ref); SimPO's beta log pi; the ratio beta pi / ref. Each with the three kinds of rejected
responses. Besides, with the optimal pi_l: DPO on n sampled pairs in place of the population; and targets pi* ~ ref e^3 on 1
and on 16 of the 32 responses, whose entropies differ.

Verdict. The claim needs: DPO with optimal rejected responses comes within 1e-6 of the target (Jensen-Shannon divergence)
and is 10^4 times nearer than every other cell; rejected responses from ref leave DPO at ref (within 1e-6); the chosen
responses' mean log-probability falls by KL(ref || pi*), within 1e-3; and for the two targets, entropy and fall are those
that the closed forms say, within 1e-2, with the larger fall where the entropy is higher. It falls if another reward comes
within 1e-6 of the target too.

Noted besides. Whether DPO nears the target as 1 / n from samples, and whether with few pairs it ends farther away than it
started, as separable rare responses could make it.

Our reading: the world, the sizes and the decay. The paper's large-model runs are not tried here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from pydantic import Field
from torch import Tensor

from rather.inspection import did
from rather.methods.registry import get
from rather.objectives.base import Objective
from rather.objectives.links import Logistic
from rather.objectives.preference import Preference
from rather.objectives.scores import Layout, Scores
from rather.studies.base import Criterion, Study, StudySettings
from rather.studies.figure import bars
from rather.studies.results import Finding, Results, Rows, every, some

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FLOOR = 1e-18
"""Divergences below this are rounding."""
BEST = "DPO, optimal rejected"
REWARDS = ("DPO", "SimPO", "ratio")
REJECTED = ("optimal", "uniform", "reference")


class Settings(StudySettings):
    responses: int = Field(32, ge=4, le=64, description="responses")
    beta: float = Field(0.5, gt=0, description="scale of the reward, and exponent of the power law")
    steps: int = Field(3_000, ge=10, description="steps of Adam")
    rate: float = Field(0.02, gt=0, description="learning rate at the start")
    samples: tuple[int, ...] = Field((2_000, 20_000, 200_000), description="numbers of sampled pairs")
    strength: float = Field(3.0, gt=0, description="log of the factor on the responses that a target favours")


@dataclass(frozen=True)
class Task:
    """A target, where training starts, and the weight [N, N] of each (chosen, rejected) pair; all sum to 1."""

    target: Tensor
    reference: Tensor
    weight: Tensor


def population(target: Tensor, reference: Tensor, rejected: Tensor) -> Task:
    return Task(target, reference, (reference[:, None] + rejected[None, :]).exp())


def sampled(task: Task, beta: float, count: int, random: torch.Generator) -> Task:
    """As many drawn pairs, chosen from the reference and rejected by the optimal sampler, in place of the population."""
    chosen = torch.multinomial(task.reference.exp(), count, replacement=True, generator=random)
    rejected = did.sample_rejected(task.target, task.reference, beta, count, random)
    number = torch.bincount(chosen * len(task.target) + rejected, minlength=task.weight.numel())
    return Task(task.target, task.reference, number.double().reshape(task.weight.shape) / count)


def tasks(settings: Settings, random: torch.Generator) -> tuple[dict[str, Task], dict[str, Task]]:
    """Those of every reward (by kind of rejected responses), and those of DPO alone."""
    shape = settings.responses
    reference, change = (torch.randn(shape, generator=random, dtype=torch.float64) for _ in range(2))
    reference = reference.log_softmax(0)
    target = (reference + change).log_softmax(0)
    best = population(target, reference, did.optimal_rejected(target, reference, settings.beta))
    uniform = torch.full_like(reference, -math.log(shape))
    of_all = {
        "optimal": best,
        "uniform": population(target, reference, uniform),
        "reference": population(target, reference, reference),
    }
    of_dpo = {f"n {count}": sampled(best, settings.beta, count, random) for count in settings.samples}
    for favoured in (1, shape // 2):
        chosen = torch.randperm(shape, generator=random)[:favoured]
        bonus = torch.zeros_like(reference).index_fill(0, chosen, settings.strength)
        aim = (reference + bonus).log_softmax(0)
        of_dpo[f"favours {favoured}"] = population(aim, reference, did.optimal_rejected(aim, reference, settings.beta))
    return of_all, of_dpo


def objective_of(reward: str, beta: float) -> Objective:
    """``ratio`` is given log-ratios as scores and exponentiates them."""
    if reward == "ratio":
        return Preference(beta=beta, link=Logistic(), needs_reference=False, transform=torch.exp)
    options = {"DPO": {}, "SimPO": {"gamma": 0.0, "reduce": "sum"}}[reward]
    return get("dpo" if reward == "DPO" else "simpo").objective(beta=beta, **options)


def fit(settings: Settings, reward: str, several: Mapping[str, Task]) -> dict[str, Tensor]:
    """Task -> [N] log-probabilities of the trained policy; the tasks are trained side by side."""
    every_task, count = list(several.values()), settings.responses
    reference = torch.stack([task.reference for task in every_task])
    weight = torch.stack([task.weight for task in every_task]).flatten()
    pairs = torch.nonzero(weight).flatten()
    task, pair = pairs // count**2, pairs % count**2
    win, lose = task * count + pair // count, task * count + pair % count
    ones = torch.ones(len(pairs), dtype=torch.long)
    layout = replace(
        Layout.of_pairs(ones, ones), winner=win, loser=lose, weight=weight[pairs], **_responses(reference.numel())
    )
    response = torch.arange(reference.numel())
    objective, of_reference = objective_of(reward, settings.beta), Scores(reference.flatten(), response)
    logits = reference.clone().requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=settings.rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
    for _ in range(settings.steps):
        policy = logits.log_softmax(1)
        scores = policy - reference if reward == "ratio" else policy
        outcome = objective(Scores(scores.flatten(), response), of_reference, layout)
        optimizer.zero_grad()
        outcome.loss({"edges": 1.0}).backward()
        optimizer.step()
        schedule.step()
    return dict(zip(several, logits.detach().log_softmax(1), strict=True))


def _responses(size: int) -> dict[str, Any]:
    """The part of a layout that is about responses: one element each, and no rating or mark."""
    zeros = torch.zeros(size, dtype=torch.long)
    return {"lengths": zeros + 1, "prompt": zeros, "desirable": zeros, "value": torch.full((size,), math.nan)}


def measure(task: Task, policy: Tensor) -> dict[str, float]:
    q = [did.differential_information(of, task.reference) for of in (policy, task.target)]
    return {
        "to target": max(FLOOR, float(did.jensen_shannon(policy, task.target))),
        "to reference": max(FLOOR, float(did.jensen_shannon(policy, task.reference))),
        "fall": -float(did.displacement(policy, task.reference)),
        "fall predicted": float(did.kl_divergence(task.reference, task.target)),
        "entropy": float(did.entropy(q[0])),
        "entropy predicted": float(did.entropy(q[1])),
    }


def run(settings: Settings, seed: int) -> Rows:
    of_all, of_dpo = tasks(settings, torch.Generator().manual_seed(seed))
    rows = {"start": measure(of_all["optimal"], of_all["optimal"].reference)}
    for reward in REWARDS:
        found = fit(settings, reward, of_all | of_dpo if reward == "DPO" else of_all)
        for kind in REJECTED:
            rows[f"{reward}, {kind} rejected"] = measure(of_all[kind], found[kind])
        for kind in of_dpo if reward == "DPO" else ():
            rows[f"DPO, {kind}"] = measure(of_dpo[kind], found[kind])
    return rows


def others() -> list[str]:
    return [cell for reward in REWARDS for kind in REJECTED if (cell := f"{reward}, {kind} rejected") != BEST]


def _favours(r: Results) -> tuple[str, str]:
    return "DPO, favours 1", f"DPO, favours {r.settings.responses // 2}"


def _as_predicted(r: Results) -> Finding:
    pairs = (("entropy", "entropy predicted"), ("fall", "fall predicted"))
    return every(*(r.difference(cell, cell, *pair).within(-0.01, 0.01) for cell in _favours(r) for pair in pairs))


def _more_entropy_more_fall(r: Results) -> Finding:
    few, many = _favours(r)
    return every(*(r.difference(many, few, metric).above(0.0) for metric in ("entropy", "fall")))


def _another_reaches(r: Results) -> Finding:
    return some(*(r.mean(f"{reward}, optimal rejected", "to target").below(1e-6) for reward in REWARDS[1:]))


def _one_over_n(r: Results) -> Finding:
    few, many = r.settings.samples[1:3]
    span = math.log(many / few)
    cells = [f"DPO, n {count}" for count in (few, many)]
    return r.over(
        "power of n in the divergence from the target",
        lambda rows: math.log(rows[cells[1]]["to target"] / rows[cells[0]]["to target"]) / span,
    ).within(-1.5, -0.5)


CRITERIA = (
    Criterion("recovers", "DPO with optimal rejected responses ends within 1e-6 of the target",
              lambda r: r.mean(BEST, "to target").below(1e-6)),
    Criterion("alone", "and is 10^4 times nearer than every other reward and kind of rejected responses",
              lambda r: every(*(r.ratio(BEST, cell, "to target").below(1e-4) for cell in others()))),
    Criterion("nothing to learn", "rejected responses from the reference leave DPO within 1e-6 of the reference",
              lambda r: r.mean("DPO, reference rejected", "to reference").below(1e-6)),
    Criterion("fall", "the chosen responses' mean log-probability falls by KL(ref || pi*), within 1e-3",
              lambda r: r.difference(BEST, BEST, "fall", "fall predicted").within(-1e-3, 1e-3)),
    Criterion("two targets", "for two targets, entropy and fall are as predicted, within 1e-2", _as_predicted),
    Criterion("entropy", "the target of higher entropy has the larger fall", _more_entropy_more_fall),
    Criterion("another reward", "SimPO's reward or the ratio ends within 1e-6 of the target too", _another_reaches,
              "refutes"),
    Criterion("samples", "from samples DPO nears the target with a power of n between -1.5 and -0.5", _one_over_n, "noted"),
    Criterion("few samples", "with the fewest samples DPO ends farther from the target than it started",
              lambda r: r.difference(f"DPO, n {r.settings.samples[0]}", "start", "to target").above(0.0), "noted"),
)  # fmt: skip


def plot(r: Results, figure: Figure) -> None:
    left, right = figure.subplots(1, 2)
    cells = [f"{reward}, {kind} rejected" for reward in REWARDS for kind in REJECTED]
    bars(left, r, "to target", ["start", *cells])
    left.set(xscale="log", xlabel="Jensen-Shannon divergence from the target")
    bars(right, r, "to target", ["start", *(f"DPO, n {count}" for count in r.settings.samples), BEST])
    right.set(xscale="log", xlabel="the same, from sampled pairs")


STUDY = Study(
    slug="differential-information",
    title="Differential information: which reward recovers the target",
    claim="With rejected responses from ref (ref / pi*)^beta DPO's log-ratio reward, and no other, ends at the target; the "
    "chosen responses' fall in likelihood is what the target demands.",
    source="arXiv 2505.23761",
    settings=Settings,
    run=run,
    metrics={
        "to target": "Jensen-Shannon divergence of policy and target, nats (1e-18 stands for less)",
        "to reference": "the same of policy and reference",
        "fall": "fall of the mean log-probability of responses that come from the reference, nats",
        "fall predicted": "KL(ref || target), nats",
        "entropy": "entropy of the differential information of the policy, nats",
        "entropy predicted": "that of the target",
    },
    criteria=CRITERIA,
    tiny={"responses": 8, "steps": 300, "samples": (100, 1_000, 10_000)},
    plot=plot,
)
