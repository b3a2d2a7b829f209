"""General preference models, arXiv 2410.02197: can embeddings hold preferences that no reward can, and at what price?

Claim. Embedding each response as a vector and scoring pairs with a skew-symmetric form represents cyclic preferences, where
a Bradley-Terry reward is at chance; and regressing log-ratios on mean scores against the current policy (GPO) converges, on
average over iterations, to the policy that no other beats.

Worlds. (a) Cycles of 3, 4 and 5 items, each preferred to the next with certainty, one free vector an item. (b) 40 items
whose true score matrix mixes differences of a reward with a cyclic part of rank four; noisy comparisons of some of the pairs
of items; accuracy is on the other pairs. (c) Rock, paper, scissors: exact GPO from a random policy, with the gap of a policy
being how much the best answer to it wins.

Arms. Bradley-Terry (`bt`) and the embedding model (`gpm`) with 2 to 8 dimensions, with and without unit length, all trained
on the same comparisons with the library's losses. In (c) the average of the policies against the last one.

Verdict. The claim needs: on cycles Bradley-Terry stays at log 2, and embeddings of two free dimensions or of six order every
pair; on the purely cyclic world four dimensions beat the reward; the reward is at least as good where preferences are
transitive (the price of what embeddings can say, which the paper's account implies); and the averaged policy's gap shrinks
while the last one's does not. It falls if a reward beats four dimensions on the half cyclic world.

Noted besides. Two dimensions of unit length can get stuck on the circle.

Our reading: the worlds' sizes, the noise, optimizer and steps, and the bounds of the criteria. The loss in (a) and (b) has
the paper's temperature, 0.1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import normalize

from rather.data.types import Comparison, Edge
from rather.methods.registry import get
from rather.objectives.embedding import EMBEDDING, score_table
from rather.objectives.scores import Layout, Scores
from rather.studies.base import Criterion, Study, StudySettings
from rather.studies.figure import bars, lines
from rather.studies.results import Finding, Results, Rows, every

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CYCLES = (3, 4, 5)
MIXES = {"transitive": 0.0, "half cyclic": 0.5, "cyclic": 1.0}
ON_CYCLES = {"BT": (0, False), "d 2": (2, False), "d 2 unit": (2, True), "d 6": (6, False), "d 6 unit": (6, True)}
ON_MIXES = {"BT": (0, False), "d 2": (2, False), "d 4": (4, False), "d 8 unit": (8, True)}
"""Arm -> (dimension, unit length); dimension 0 is a reward."""


class Settings(StudySettings):
    cycle_steps: int = Field(500, ge=1, description="Adam steps on the cycles")
    items: int = Field(40, ge=6, description="items of the mixed worlds")
    comparisons: int = Field(8_000, ge=10, description="noisy comparisons in a mixed world")
    seen: float = Field(
        0.7, gt=0, lt=1, description="share of the pairs of items that are compared; the rest is held out"
    )
    sharpness: float = Field(2.0, gt=0, description="standard deviation of the true scores, in log-odds")
    mix_steps: int = Field(400, ge=1, description="Adam steps on the mixed worlds")
    rate: float = Field(0.02, gt=0, description="learning rate")
    rounds: tuple[int, int, int] = Field((10, 100, 400), description="iterations of GPO that are looked at")
    beta: float = Field(1.0, gt=0, description="beta of GPO")


class Items:
    """Free rewards or vectors of n items, and the library's loss of comparisons between them."""

    def __init__(self, count: int, arm: tuple[int, bool], random: torch.Generator) -> None:
        self.dim, self.unit = arm
        shape = (count, self.dim) if self.dim else (count,)
        self.values = (0.3 * torch.randn(shape, generator=random, dtype=torch.float64)).requires_grad_()
        self.objective = get("gpm" if self.dim else "bt").objective(tau=0.1)

    def loss(self, layout: Layout) -> Tensor:
        index = torch.arange(layout.responses)
        if self.dim:
            zeros = torch.zeros(layout.responses, dtype=torch.float64)
            scores = Scores(zeros, index, {EMBEDDING: self.vectors})
        else:
            scores = Scores(self.values, index)
        return self.objective(scores, None, layout).loss({"edges": float(layout.weight.sum())})

    @property
    def vectors(self) -> Tensor:
        return normalize(self.values, dim=-1) if self.unit else self.values

    def table(self) -> Tensor:
        """[n, n] scores of each item over each."""
        with torch.no_grad():
            if self.dim:
                return score_table(self.vectors)
            return self.values[:, None] - self.values[None, :]


def fit(arms: Mapping[str, Items], layout: Layout, steps: int, rate: float) -> dict[str, float]:
    """Train all arms side by side (they share nothing but the steps); the final loss of each."""
    optimizer = torch.optim.Adam([items.values for items in arms.values()], lr=rate)
    for _ in range(steps):
        optimizer.zero_grad(set_to_none=True)
        sum((items.loss(layout) for items in arms.values()), torch.zeros(())).backward()
        optimizer.step()
    with torch.no_grad():
        return {name: items.loss(layout).item() for name, items in arms.items()}


def layout_of(count: int, edges: list[Edge]) -> Layout:
    return Layout.of([Comparison("items", "", ("",) * count, tuple(edges))], [1] * count)


def right(table: Tensor, winner: Tensor, loser: Tensor) -> float:
    """Share of pairs that a table of scores orders right; a tie to rounding is half right."""
    score = table[winner, loser]
    return float(((score > 1e-6).double() + (score.abs() <= 1e-6).double() / 2).mean())


def cycles(settings: Settings, random: torch.Generator) -> dict[str, Mapping[str, float]]:
    rows: dict[str, Mapping[str, float]] = {}
    for count in CYCLES:
        layout = layout_of(count, [Edge(i, (i + 1) % count) for i in range(count)])
        arms = {name: Items(count, arm, random) for name, arm in ON_CYCLES.items()}
        loss = fit(arms, layout, settings.cycle_steps, settings.rate)
        for name, items in arms.items():
            accuracy = right(items.table(), layout.winner, layout.loser)
            rows[f"{name}, cycle of {count}"] = {"accuracy": accuracy, "loss": loss[name]}
    return rows


def true_scores(count: int, cyclic: float, random: torch.Generator) -> Tensor:
    """[n, n] a share of differences of a reward and a share of a skew-symmetric matrix of rank four; both spread alike."""
    reward = torch.randn(count, generator=random, dtype=torch.float64)
    transitive = reward[:, None] - reward[None, :]
    turning = score_table(torch.randn(count, 4, generator=random, dtype=torch.float64))
    mixed = (1 - cyclic) * transitive / transitive.std() + cyclic * turning / turning.std()
    return mixed / mixed.std()


def mixes(settings: Settings, random: torch.Generator) -> dict[str, Mapping[str, float]]:
    rows: dict[str, Mapping[str, float]] = {}
    count = settings.items
    first, second = torch.triu_indices(count, count, 1)
    for name, cyclic in MIXES.items():
        truth = settings.sharpness * true_scores(count, cyclic, random)
        order = torch.randperm(len(first), generator=random)
        seen, held = order.split([round(settings.seen * len(order)), len(order) - round(settings.seen * len(order))])
        drawn = seen[torch.randint(len(seen), (settings.comparisons,), generator=random)]
        uniform = torch.rand(settings.comparisons, generator=random, dtype=torch.float64)
        won = uniform < torch.sigmoid(truth[first[drawn], second[drawn]])
        layout = layout_of(count, _counted(first, second, drawn, won))
        arms = {arm: Items(count, dims, random) for arm, dims in ON_MIXES.items()}
        loss = fit(arms, layout, settings.mix_steps, settings.rate)
        upward = truth[first[held], second[held]] > 0
        winner = torch.where(upward, first[held], second[held])
        loser = torch.where(upward, second[held], first[held])
        for arm, items in arms.items():
            rows[f"{arm}, {name}"] = {"accuracy": right(items.table(), winner, loser), "loss": loss[arm]}
    return rows


def _counted(first: Tensor, second: Tensor, drawn: Tensor, won: Tensor) -> list[Edge]:
    """Each pair that was compared as one edge in each direction that won, weighted by how often: the same mean loss."""
    edges = []
    for flag in (True, False):
        pair, times = drawn[won == flag].unique(return_counts=True)
        ends = (first, second) if flag else (second, first)
        for winner, loser, weight in zip(ends[0][pair].tolist(), ends[1][pair].tolist(), times.tolist(), strict=True):
            edges.append(Edge(winner, loser, weight=float(weight)))
    return edges


def rock_paper_scissors(settings: Settings, random: torch.Generator) -> dict[str, Mapping[str, float]]:
    """Gap of the last and of the averaged policy after some rounds of pi <- pi exp(s / beta) / Z, s = S pi."""
    scores = torch.tensor([[0.0, 1, -1], [-1, 0, 1], [1, -1, 0]], dtype=torch.float64)
    log_pi = torch.randn(3, generator=random, dtype=torch.float64).log_softmax(0)
    total, rows = torch.zeros(3, dtype=torch.float64), {}
    for count in range(1, max(settings.rounds) + 1):
        total += log_pi.exp()
        if count in settings.rounds:
            average = total / count
            gaps = {"average": float((scores @ average).max()), "last": float((scores @ log_pi.exp()).max())}
            rows |= {f"{name} policy, round {count}": {"gap": gap} for name, gap in gaps.items()}
        log_pi = (log_pi + scores @ log_pi.exp() / settings.beta).log_softmax(0)
    return rows


def run(settings: Settings, seed: int) -> Rows:
    random = torch.Generator().manual_seed(seed)
    return cycles(settings, random) | mixes(settings, random) | rock_paper_scissors(settings, random)


def _at_chance(r: Results) -> Finding:
    low, high = math.log(2) - 0.01, math.log(2) + 0.01
    return every(*(r.mean(f"BT, cycle of {count}", "loss").within(low, high) for count in CYCLES))


def _all_right(r: Results) -> Finding:
    names = [f"{arm}, cycle of {count}" for arm in ("d 2", "d 6", "d 6 unit") for count in CYCLES]
    return every(*(r.mean(name, "accuracy").above(0.99) for name in names))


def _gain(r: Results, arm: str, world: str) -> Any:
    return r.difference(f"{arm}, {world}", f"BT, {world}", "accuracy")


def _price(r: Results) -> Finding:
    return every(_gain(r, "d 8 unit", "transitive").below(0.0), _gain(r, "d 2", "transitive").below(0.01))


def _averages(r: Results) -> Finding:
    first, _, last = r.settings.rounds
    return every(
        r.ratio(f"average policy, round {last}", f"average policy, round {first}", "gap").below(0.5),
        r.mean(f"last policy, round {last}", "gap").above(0.5),
    )


def _stuck(r: Results) -> Finding:
    share = r.share("a wrongly ordered 3-cycle", lambda rows: rows["d 2 unit, cycle of 3"]["accuracy"] < 1)
    return share.above(0.0)


CRITERIA = (
    Criterion("reward on cycles", "the loss of Bradley-Terry stays within 0.01 of log 2 on every cycle", _at_chance),
    Criterion("embeddings on cycles", "d 2 and d 6, and d 6 of unit length, order more than 99% of every cycle", _all_right),
    Criterion("cyclic world", "four dimensions order at least 0.1 more of the held-out pairs than a reward",
              lambda r: _gain(r, "d 4", "cyclic").above(0.1)),
    Criterion("price", "on the transitive world a reward is better than d 8 and no more than 0.01 worse than d 2", _price),
    Criterion("GPO", "the averaged policy's gap at least halves from the first to the last round looked at, the last "
              "policy's stays above 0.5", _averages),
    Criterion("reward suffices", "on the half cyclic world a reward orders more of the held-out pairs than d 4",
              lambda r: _gain(r, "d 4", "half cyclic").below(0.0), "refutes"),
    Criterion("half cyclic", "there d 8 of unit length orders at least 0.05 more than a reward",
              lambda r: _gain(r, "d 8 unit", "half cyclic").above(0.05), "noted"),
    Criterion("stuck", "in some seed, two dimensions of unit length leave a pair of the 3-cycle in the wrong order",
              _stuck, "noted"),
)  # fmt: skip


def plot(r: Results, figure: Figure) -> None:
    left, middle, right_ = figure.subplots(1, 3)
    bars(left, r, "accuracy", [f"{arm}, cycle of 3" for arm in ON_CYCLES])
    left.set(xlabel="share of the cycle in order", xlim=(0, 1.05))
    series = {arm: {share: f"{arm}, {world}" for world, share in MIXES.items()} for arm in ON_MIXES}
    lines(middle, r, "accuracy", series)
    middle.set(xlabel="cyclic share of the scores", ylabel="held-out pairs in order")
    rounds = {name: {n: f"{name} policy, round {n}" for n in r.settings.rounds} for name in ("average", "last")}
    lines(right_, r, "gap", rounds, log="x")
    right_.set(xlabel="rounds of GPO", ylabel="gap of the policy", ylim=(0, None))


STUDY = Study(
    slug="gpm",
    title="Preference embeddings and cyclic preferences",
    claim="Embeddings with a skew-symmetric score learn preferences that go in cycles, where any reward is at chance, and "
    "general preference optimization converges on average.",
    source="arXiv 2410.02197",
    settings=Settings,
    run=run,
    metrics={
        "accuracy": "share of pairs in the right order: of the cycle itself; of held-out pairs in the mixed worlds",
        "loss": "mean loss of the comparisons after training (nats)",
        "gap": "expected score of the best answer to the policy (0: nothing beats it)",
    },
    criteria=CRITERIA,
    tiny={"cycle_steps": 30, "items": 8, "comparisons": 200, "mix_steps": 20, "rounds": (2, 5, 20)},
    seeds=10,
    plot=plot,
)
