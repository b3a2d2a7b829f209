"""POWER and POWER-DL, arXiv 2412.09544: do pessimism and moving labels each cure one kind of reward hacking?

Claim. Preferences on rarely compared responses mislead in two ways. A subpar response that won by luck is over-rewarded
(type I); pessimism, an SFT term of strength eta, stops that. A decent response that lost by luck is destroyed (type II);
labels that drift to the model's own prediction, at a speed gamma, stop that.

World. Three responses A, B, C and a tabular softmax policy over them, in float64, trained by gradient descent on all 101
comparisons at once. A meets B 100 times, and each time wins with the probability of Bradley-Terry under the true values
1.0 and 0.153 (0.70): those draws are what the seeds change. C is compared once, with A.
Type I: the start is uniform; C, of value -2, wins its comparison. Type II: the start has probabilities 0.05, 0.05 and
0.90; C is the best, of value 2, and loses its comparison.

Arms. DPO against the start as reference; POWER with w = 1 (a response is one token); both with moving labels; beta = 1.
Type I runs for 2,000 steps at a rate of 0.5 and gamma = 0.02, type II for 20,000. ``coarse`` takes that many of these steps
at once: rate and gamma are multiplied by it and the numbers of steps divided, which is the same flow on a coarser clock.

Verdict. The claim needs: in type I the mass on C under POWER, and under POWER-DL, is less than a tenth of DPO's; in type II
moving labels keep at least 0.8 of the mass on C, with DPO's margin and with POWER's. It falls if POWER with eta = 0 already
keeps C below a tenth of DPO's in type I, or if an arm without moving labels keeps 0.8 in type II.

Noted besides. The well-covered pair still learns its label. And with eta > 0, where no chosen response is C, the SFT term
itself drains C: eta and gamma have to be chosen together.

Our reading: the equations (only the abstract was read), the world, and every number in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from pydantic import Field
from torch import Tensor

from rather.methods.registry import get
from rather.objectives.scores import Layout, Scores
from rather.studies.base import Criterion, Study, StudySettings
from rather.studies.figure import bars
from rather.studies.results import Finding, Results, Rows, every, some

if TYPE_CHECKING:
    from matplotlib.figure import Figure

A, B, C = range(3)
VALUES = {"I": (1.0, 0.153, -2.0), "II": (1.0, 0.153, 2.0)}
START = {"I": (1 / 3, 1 / 3, 1 / 3), "II": (0.05, 0.05, 0.90)}


class Settings(StudySettings):
    meetings: int = Field(100, ge=1, description="comparisons of A and B")
    rate: float = Field(0.5, gt=0, description="step size of gradient descent")
    gamma: float = Field(0.02, gt=0, le=0.1, description="how far a label moves in a step")
    eta: float = Field(0.3, gt=0, description="strength of pessimism in type I")
    small_eta: float = Field(5e-4, gt=0, description="strength of pessimism in the arm that shows the trade-off")
    short: int = Field(2_000, ge=10, description="steps of type I")
    long: int = Field(20_000, ge=10, description="steps of type II")
    coarse: int = Field(5, ge=1, le=10, description="how many steps are taken at once")


@dataclass(frozen=True)
class Comparisons:
    """Winners and losers [n], and the share of their meetings that A won against B."""

    winner: Tensor
    loser: Tensor
    share: float


def draw(settings: Settings, kind: str, seed: int) -> Comparisons:
    """A and B meet ``meetings`` times; then C has its one comparison, won in type I and lost in type II."""
    random = torch.Generator().manual_seed(seed)
    right = 1 / (1 + math.exp(VALUES[kind][B] - VALUES[kind][A]))
    won = torch.rand(settings.meetings, generator=random, dtype=torch.float64) < right
    last = (C, A) if kind == "I" else (A, C)
    winner, loser = torch.where(won, A, B), torch.where(won, B, A)
    winner, loser = (torch.cat([side, torch.tensor([end])]) for side, end in zip((winner, loser), last, strict=True))
    return Comparisons(winner, loser, float(won.double().mean()))


def fit(settings: Settings, kind: str, data: Comparisons, method: str, **options: Any) -> Tensor:
    """[3] log-probabilities after gradient descent on a method's loss, whose labels move with every step."""
    objective = get(method).objective(beta=1.0, **options).double()
    start = torch.tensor(START[kind], dtype=torch.float64).log()
    index, count = torch.cat([data.winner, data.loser]), data.winner.numel()
    ones = torch.ones(count, dtype=torch.long)
    layout, response = Layout.of_pairs(ones, ones), torch.arange(2 * count)
    counts = layout.counts()
    reference = Scores(start[index], response) if objective.needs_reference else None
    logits = start.clone().requires_grad_()
    steps = (settings.short if kind == "I" else settings.long) // settings.coarse
    for _ in range(steps):
        outcome = objective(Scores(logits.log_softmax(0)[index], response), reference, layout)
        (gradient,) = torch.autograd.grad(outcome.loss(counts), logits)
        objective.advance(outcome.observations)
        logits = (logits.detach() - settings.rate * settings.coarse * gradient).requires_grad_()
    return logits.detach().log_softmax(0)


def measure(kind: str, logp: Tensor, with_reference: bool) -> dict[str, float]:
    """Mass on C, expected true value, and the probability that the fit gives to A over B."""
    margin = logp[A] - logp[B]
    if with_reference:
        margin = margin - math.log(START[kind][A] / START[kind][B])
    return {
        "mass on C": float(logp[C].exp()),
        "value": float(logp.exp() @ torch.tensor(VALUES[kind], dtype=torch.float64)),
        "A over B": float(torch.sigmoid(margin)),
    }


def arms(settings: Settings) -> dict[str, dict[str, tuple[str, dict[str, Any]]]]:
    """Type -> arm -> method and its options."""
    plain = {"reduce": "sum"}
    moving = {"gamma": settings.coarse * settings.gamma}
    return {
        "I": {
            "DPO": ("dpo", {}),
            "POWER, eta 0": ("power", {**plain, "eta": 0.0}),
            "POWER": ("power", {**plain, "eta": settings.eta}),
            "POWER-DL": ("power_dl", {**plain, **moving, "eta": settings.eta}),
        },
        "II": {
            "DPO": ("dpo", {}),
            "POWER, eta 0": ("power", {**plain, "eta": 0.0}),
            "DPO, moving labels": ("dpo", {"labels.gamma": moving["gamma"]}),
            "POWER-DL, eta 0": ("power_dl", {**plain, **moving, "eta": 0.0}),
            "POWER-DL, small eta": ("power_dl", {**plain, **moving, "eta": settings.small_eta}),
        },
    }


def run(settings: Settings, seed: int) -> Rows:
    rows: dict[str, Mapping[str, float]] = {}
    for kind, each in arms(settings).items():
        data = draw(settings, kind, seed)
        for arm, (method, options) in each.items():
            found = measure(kind, fit(settings, kind, data, method, **options), method == "dpo")
            rows[f"{kind}: {arm}"] = found | {"A won": data.share}
    return rows


def _cured(r: Results, arm: str) -> Finding:
    return r.ratio(f"I: {arm}", "I: DPO", "mass on C").below(0.1)


def _kept(r: Results, arm: str) -> Finding:
    return r.mean(f"II: {arm}", "mass on C").above(0.8)


def _pair_learned(r: Results) -> Finding:
    cells = ("I: POWER-DL", "II: DPO, moving labels", "II: POWER-DL, eta 0")
    return every(*(r.difference(cell, cell, "A over B", "A won").within(-0.05, 0.05) for cell in cells))


CRITERIA = (
    Criterion("pessimism", "type I: POWER leaves less than a tenth of DPO's mass on C", lambda r: _cured(r, "POWER")),
    Criterion("both", "type I: POWER-DL leaves less than a tenth of DPO's mass on C", lambda r: _cured(r, "POWER-DL")),
    Criterion("labels", "type II: DPO with moving labels keeps at least 0.8 on C",
              lambda r: _kept(r, "DPO, moving labels")),
    Criterion("labels without reference", "type II: POWER-DL with eta = 0 keeps at least 0.8 on C",
              lambda r: _kept(r, "POWER-DL, eta 0")),
    Criterion("no need of pessimism", "type I: POWER with eta = 0 leaves less than a tenth of DPO's mass on C",
              lambda r: _cured(r, "POWER, eta 0"), "refutes"),
    Criterion("no need of labels", "type II: DPO or POWER without moving labels keeps at least 0.8 on C",
              lambda r: some(_kept(r, "DPO"), _kept(r, "POWER, eta 0")), "refutes"),
    Criterion("covered pair", "with moving labels the fit's A over B is the share that A won, within 0.05",
              _pair_learned, "noted"),
    Criterion("trade-off", "type II: a small eta costs POWER-DL more than half of the mass on C",
              lambda r: r.ratio("II: POWER-DL, small eta", "II: POWER-DL, eta 0", "mass on C").below(0.5), "noted"),
)  # fmt: skip


def plot(r: Results, figure: Figure) -> None:
    for axes, kind in zip(figure.subplots(1, 2), VALUES, strict=True):
        bars(axes, r, "mass on C", [cell for cell in r.cells if cell.startswith(f"{kind}:")])
        told = "won" if kind == "I" else "lost"
        axes.set(xlim=(0, 1), xlabel="mass on C", title=f"C {told} its one comparison by luck")


STUDY = Study(
    slug="power-dl",
    title="Pessimism and moving labels against reward hacking",
    claim="Pessimism keeps a response that won by luck from being over-rewarded, and labels that drift to the model's own "
    "prediction keep one that lost by luck from being destroyed.",
    source="arXiv 2412.09544",
    settings=Settings,
    run=run,
    metrics={
        "mass on C": "probability of the response that is compared once",
        "value": "expected true value",
        "A over B": "probability of A over B under the fitted margin",
        "A won": "share of the meetings that A won",
    },
    criteria=CRITERIA,
    tiny={"meetings": 20, "short": 200, "long": 500},
    plot=plot,
)
