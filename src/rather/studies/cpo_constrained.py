"""Constrained preference optimization, arXiv 2605.20834: can DPO not leave the pairs that its reference orders wrongly?

Claim. Where the reference prefers the rejected response, DPO's loss falls below its start while the policy still prefers it
(the set U: d_ref < d < 0, with d the margin of log-probabilities), and its push fades before d = 0 is reached. A margin that
depends on the reference gets such pairs out.

World. (a) One margin d per pair, started at d_ref = -1, -2 and -4 and moved by gradient descent at a rate of 0.05; counted
are the steps until d > 0, for beta = 1 and 2.5. Nothing in it is random, so every seed has the same counts. (b) 400 pairs
with shared parameters, d = d_ref + x . theta, x in R^400 normal with variance 1/400; d_ref is normal with standard deviation
1 and a mean of 0.305, so that 38 % of the pairs are ordered wrongly; 600 steps of gradient descent on the mean loss at a
rate of 0.5, beta = 2.5, gamma = 0.05. The reference's two scores lie about -1.5 (about lower ones where both would not be
negative); only the margins that need the scores themselves, eq. 17 and the released easy one, see that.

Arms. DPO and the variants of ``constrained_po``: clip, softplus with alpha = 1 (in (a) with gamma = 0.1), in (b) also eq17
and easy_code.

Verdict. The claim needs: DPO's steps grow with the depth like exp(beta |d_ref|) (a power of that between 0.8 and 1.2)
where clip's and softplus's grow about in proportion (a power of the depth below 1.3); in (b), the share of pairs in U is
softplus <= clip (within 0.005) < DPO; and the released easy margin leaves no fewer pairs in U than DPO (within 0.01).
It falls if DPO leaves d_ref = -4 at beta = 2.5 in less than twice the steps of clip.

Our reading: the reference's scores, the bounds, the number of steps that are counted at most, and that eq. 17 takes mean
log-probabilities.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from pydantic import Field
from torch import Tensor

from rather.inspection.reference_order import reference_order
from rather.methods.registry import get
from rather.objectives.scores import Layout, Scores
from rather.studies.base import Criterion, Study, StudySettings
from rather.studies.figure import bars, lines
from rather.studies.results import Estimate, Finding, Results, Rows, every

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DEPTHS = (1.0, 2.0, 4.0)
BETAS = (1.0, 2.5)


class Settings(StudySettings):
    rate: float = Field(0.05, gt=0, description="(a) step size")
    most: int = Field(20_000, ge=100, description="(a) steps that are counted at most")
    gamma_alone: float = Field(0.1, ge=0, description="(a) gamma of softplus")
    pairs: int = Field(400, ge=10, description="(b) pairs, and parameters")
    steps: int = Field(600, ge=1, description="(b) steps")
    shared_rate: float = Field(0.5, gt=0, description="(b) step size")
    beta: float = Field(2.5, gt=0, description="(b) scale of the implicit reward")
    gamma: float = Field(0.05, ge=0, description="(b) gamma of every variant")
    centre: float = Field(-1.5, lt=0, description="(b) about where the reference's scores lie")


class Pairs:
    """Pairs whose reference scores are fixed and whose policy margins [n] are given.

    Args:
        reference: [2, n] scores of the winners and of the losers, one element each.
    """

    def __init__(self, method: str, options: Mapping[str, Any], reference: Tensor) -> None:
        count = reference.shape[1]
        ones = torch.ones(count, dtype=torch.long)
        self.objective = get(method).objective(**options)
        self.layout, self.response = Layout.of_pairs(ones, ones), torch.arange(2 * count)
        self.loser, self.reference = reference[1], Scores(reference.flatten(), self.response)

    def push(self, margin: Tensor) -> Tensor:
        """[n] gradient of each pair's loss on its margin d."""
        margin = margin.detach().requires_grad_()
        policy = Scores(torch.cat([self.loser + margin, self.loser]), self.response)
        loss = self.objective(policy, self.reference, self.layout).terms[0].values.sum()
        return torch.autograd.grad(loss, margin)[0]


def arms(gamma: float) -> dict[str, tuple[str, dict[str, Any]]]:
    own = {"gamma": gamma, "reduce": "sum"}
    return {
        "DPO": ("dpo", {}),
        "easy": ("constrained_po", {**own, "variant": "easy_code"}),
        "eq17": ("constrained_po", {**own, "variant": "eq17"}),
        "clip": ("constrained_po", {**own, "variant": "clip"}),
        "softplus": ("constrained_po", {**own, "variant": "softplus", "alpha": 1.0}),
    }


@cache
def steps_to_leave(arm: str, beta: float, gamma: float, rate: float, most: int) -> tuple[float, ...]:
    """Steps until d > 0 from each depth; infinite where ``most`` do not suffice. The same for every seed."""
    method, options = arms(gamma)[arm]
    depth = torch.tensor(DEPTHS, dtype=torch.float64)
    pairs = Pairs(method, {**options, "beta": beta}, torch.stack([-3 - depth / 2, -3 + depth / 2]))
    margin, left = -depth, torch.full_like(depth, math.inf)
    for step in range(1, most + 1):
        margin = margin - rate * pairs.push(margin)
        left = torch.where((margin > 0) & left.isinf(), float(step), left)
        if left.isfinite().all():
            break
    return tuple(left.tolist())


def alone(arm: str, beta: float, depth: float) -> str:
    return f"{arm}, beta {beta:g}, d_ref {-depth:g}"


def _alone(settings: Settings) -> Rows:
    """(a): steps, with ``most`` in place of an unknown larger number."""
    rows: dict[str, Mapping[str, float]] = {}
    for beta in BETAS:
        for arm in ("DPO", "clip", "softplus"):
            found = steps_to_leave(arm, beta, settings.gamma_alone, settings.rate, settings.most)
            for depth, steps in zip(DEPTHS, found, strict=True):
                rows[alone(arm, beta, depth)] = {"steps": min(steps, settings.most), "left": float(steps < math.inf)}
    return rows


def reference_scores(settings: Settings, random: torch.Generator) -> Tensor:
    """[2, n] negative scores with margins that are normal about 0.305."""
    margin = 0.305 + torch.randn(settings.pairs, generator=random, dtype=torch.float64)
    centre = torch.minimum(torch.tensor(settings.centre, dtype=torch.float64), -margin.abs() / 2 - 0.05)
    return torch.stack([centre + margin / 2, centre - margin / 2])


def _shared(settings: Settings, seed: int) -> Rows:
    """(b): share in U and accuracy after training, all arms from the same start."""
    random = torch.Generator().manual_seed(seed)
    reference = reference_scores(settings, random)
    shape = (settings.pairs, settings.pairs)
    features = torch.randn(shape, generator=random, dtype=torch.float64) / math.sqrt(settings.pairs)
    start = reference[0] - reference[1]
    rows: dict[str, Mapping[str, float]] = {}
    for arm, (method, options) in arms(settings.gamma).items():
        pairs = Pairs(method, {**options, "beta": settings.beta}, reference)
        theta = features.new_zeros(settings.pairs)
        for _ in range(settings.steps):
            theta = theta - settings.shared_rate * features.T @ pairs.push(start + features @ theta) / settings.pairs
        margin = start + features @ theta
        audit = reference_order(margin, start, gamma=settings.gamma)
        rows[arm] = {
            "in U": audit.frac_in_U,
            "accuracy": float((margin > 0).double().mean()),
            "reward accuracy": float((margin > start).double().mean()),
            "wrong at the start": float((start < 0).double().mean()),
        }
    return rows


def run(settings: Settings, seed: int) -> Rows:
    return {**_alone(settings), **_shared(settings, seed)}


def _exponential(r: Results) -> Finding:
    """DPO's steps against exp(beta depth), between neighbouring depths that it left at both."""
    found = []
    for beta in BETAS:
        for less, more in ((1.0, 2.0), (2.0, 4.0)):
            cells = [alone("DPO", beta, depth) for depth in (less, more)]
            if min(r.values(cells[1], "left")) == 1:
                found.append(_power(r, cells, beta * (more - less), f"exp({beta:g} |d_ref|)").within(0.8, 1.2))
    return every(*found)


def _proportional(r: Results) -> Finding:
    found = []
    for beta in BETAS:
        for arm in ("clip", "softplus"):
            cells = [alone(arm, beta, depth) for depth in (2.0, 4.0)]
            found.append(_power(r, cells, math.log(2.0), f"|d_ref|, {arm}, beta {beta:g},").below(1.3))
    return every(*found)


def _power(r: Results, cells: list[str], span: float, of: str) -> Estimate:
    return r.over(
        f"power of {of} in the steps", lambda rows: math.log(rows[cells[1]]["steps"] / rows[cells[0]]["steps"]) / span
    )


def _order(r: Results) -> Finding:
    return every(
        r.difference("softplus", "clip", "in U").below(0.005),
        r.difference("clip", "DPO", "in U").below(0.0),
    )


def _as_fast(r: Results) -> Finding:
    """DPO's steps from -4 at beta 2.5 (at least ``most`` where it does not leave) over those of clip."""
    return r.ratio(alone("DPO", 2.5, 4.0), alone("clip", 2.5, 4.0), "steps").below(2.0)


CRITERIA = (
    Criterion("exponential", "DPO's steps out of U grow as exp(beta |d_ref|), a power between 0.8 and 1.2", _exponential),
    Criterion("proportional", "those of clip and softplus grow with a power of |d_ref| below 1.3 from 2 to 4",
              _proportional),
    Criterion("order", "the share in U is softplus <= clip (within 0.005) < DPO", _order),
    Criterion("released easy", "the released easy margin leaves no fewer pairs in U than DPO, within 0.01",
              lambda r: r.difference("easy", "DPO", "in U").above(-0.01)),
    Criterion("as fast", "DPO leaves d_ref = -4 at beta = 2.5 in less than twice the steps of clip", _as_fast, "refutes"),
    Criterion("accuracy", "softplus and clip prefer the chosen response more often than DPO, by 0.05",
              lambda r: every(*(r.difference(arm, "DPO", "accuracy").above(0.05) for arm in ("softplus", "clip"))),
              "noted"),
    Criterion("reward accuracy says nothing", "after DPO the implicit reward calls more than 0.9 of the pairs right",
              lambda r: r.mean("DPO", "reward accuracy").above(0.9), "noted"),
)  # fmt: skip


def plot(r: Results, figure: Figure) -> None:
    left, right = figure.subplots(1, 2)
    series = {
        f"{arm}, beta {beta:g}": {depth: alone(arm, beta, depth) for depth in DEPTHS}
        for beta in BETAS
        for arm in ("DPO", "clip", "softplus")
    }
    lines(left, r, "steps", series, log="xy")
    left.set(xlabel="depth -d_ref", ylabel=f"steps until d > 0 (at most {r.settings.most:,})")
    bars(right, r, "in U", list(arms(0.0)))
    right.set(xlabel="share of pairs in U")


STUDY = Study(
    slug="cpo-constrained",
    title="Constrained preference optimization and wrongly ordered references",
    claim="DPO hardly gets pairs that its reference orders wrongly to the right side; a margin that depends on the "
    "reference does.",
    source="arXiv 2605.20834",
    settings=Settings,
    run=run,
    metrics={
        "steps": "steps of gradient descent until the policy prefers the chosen response, or as many as are counted",
        "left": "1 where it came to prefer it",
        "in U": "share of pairs that the policy orders wrongly, yet less so than the reference",
        "accuracy": "share of pairs whose chosen response is the likelier one",
        "reward accuracy": "share of pairs whose margin grew over the reference's",
        "wrong at the start": "share of pairs that the reference orders wrongly",
    },
    criteria=CRITERIA,
    tiny={"most": 300, "pairs": 40, "steps": 30},
    plot=plot,
)
