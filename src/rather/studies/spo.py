"""Self-supervised preference optimization with degrees, arXiv 2409.17791: does telling degrees help to learn preferences?

Claim. Pairwise losses see better and worse only. Training the policy's own states to tell how much key content was taken
out of a response makes it aware of degrees, and improves the preference method that the loss is added to.

World. Texts of 12 tokens: 10 keywords worth 0.5 to 2.0, 19 fillers worth nothing, and a mask; a text's reward is the sum of
its keywords. A GRU language model fitted to random texts is the reference. Pairs are labelled by Bradley-Terry.
A degraded text has its keywords masked, more at a higher level, in a random order drawn anew at each step (in place of RAKE,
which would find them).

Arms, from the same reference, on the same pairs and batches: DPO, and DPO with the degree loss on both responses, its head
at ten times the policy's learning rate as in a run. Controls: the same degraded texts with levels drawn at random as labels;
as many fillers masked in place of keywords; and DPO with and without degrees at a lower rate, which suits DPO with few pairs
better.

Measured on held-out pairs: accuracy of the implicit reward; its rank correlation with the true reward; how often the head
tells the level of a degraded held-out text.

Verdict. The claim needs: with few pairs the degree loss raises accuracy over DPO; it is better than with labels drawn at
random; and the gain is larger with few pairs than with many. It falls if with few pairs the gain is negative, if labels
drawn at random do as well, within 0.005, or if DPO at the lower rate beats degrees at either rate: the gain then is that
of training less. (The last was laid down after a first run without the lower rate, which supported the claim.)

Our reading: head, pooling, levels and weight of the loss, as in degree_spo, and the world. The rate of the head was chosen
on other seeds, after one at the policy's own rate, with both at 3e-4, had lost 0.008 of accuracy against DPO; at 1e-3 such a
head gave 0.018 of the gain of 0.041.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from pydantic import Field
from torch import Tensor, nn

from rather.data.types import Auxiliary, Comparison, Edge
from rather.methods.registry import get
from rather.objectives.degree import DegreeLoss
from rather.objectives.scores import Auxiliaries, Layout, Scores
from rather.studies.base import Criterion, Study, StudySettings
from rather.studies.figure import bars
from rather.studies.results import Estimate, Results, Rows, every

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KEYWORDS, FILLERS, LENGTH = 10, 19, 12
MASK = KEYWORDS + FILLERS
TOKENS = MASK + 1
WORTH = torch.cat([torch.linspace(0.5, 2.0, KEYWORDS), torch.zeros(FILLERS + 1)])
DPO, DEGREES, SHUFFLED, OTHERS = "DPO", "DPO + degrees", "random labels", "fillers masked"
TUNED = "DPO, lower rate", "DPO + degrees, lower rate"
"""Both at the rate that suits DPO better with few pairs."""


class Settings(StudySettings):
    few: int = Field(150, ge=4, description="preference pairs, the smaller number")
    many: int = Field(600, ge=4, description="preference pairs, the larger number")
    test: int = Field(3_000, ge=10, description="held-out pairs")
    corpus: int = Field(4_000, ge=10, description="texts that the reference is fitted to")
    fitting: int = Field(300, ge=1, description="steps of that, of 128 texts")
    steps: int = Field(300, ge=1, description="steps of preference optimization")
    batch: int = Field(32, ge=1, description="pairs of a step")
    width: int = Field(48, ge=1, description="width of the GRU")
    rate: float = Field(1e-3, gt=0, description="Adam's learning rate; the head's is ten times that")
    lower_rate: float = Field(3e-4, gt=0, description="the same, of the arms at a lower rate")
    beta: float = Field(0.1, gt=0, description="of DPO")
    gamma: float = Field(0.5, ge=0, description="weight of the degree loss")
    levels: int = Field(4, ge=2, description="degrees K")


class Model(nn.Module):
    """A GRU language model; its states are those from which each token is predicted."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.zeros(1, 1, width))
        self.embedding = nn.Embedding(TOKENS, width)
        self.gru = nn.GRU(width, width, batch_first=True)
        self.out = nn.Linear(width, TOKENS)

    def forward(self, texts: Tensor) -> tuple[Tensor, Tensor]:
        """[N, T] log-probabilities of the tokens, and [N, T, D] states."""
        before = torch.cat([self.start.expand(len(texts), -1, -1), self.embedding(texts[:, :-1])], 1)
        states = self.gru(before)[0]
        logps = self.out(states).log_softmax(-1).gather(-1, texts[..., None]).squeeze(-1)
        return logps, states


@dataclass(frozen=True)
class World:
    """Preferred and other texts [n, 2, T] for training, held-out texts [m, 2, T] without order, and the reference."""

    pairs: Tensor
    test: Tensor
    reference: Model


def texts(count: int, random: torch.Generator) -> Tensor:
    """[count, T] with a third of keywords."""
    keyword = torch.randint(KEYWORDS, (count, LENGTH), generator=random)
    filler = KEYWORDS + torch.randint(FILLERS, (count, LENGTH), generator=random)
    return torch.where(torch.rand(count, LENGTH, generator=random) < 1 / 3, keyword, filler)


def make_world(settings: Settings, seed: int) -> World:
    random = torch.Generator().manual_seed(seed)
    corpus = texts(settings.corpus, random)
    torch.manual_seed(seed)
    model = Model(settings.width)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(settings.fitting):
        rows = torch.randint(len(corpus), (128,), generator=random)
        loss = -model(corpus[rows])[0].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    pairs = texts(2 * settings.many, random).reshape(-1, 2, LENGTH)
    reward = WORTH[pairs].sum(-1)
    right = torch.rand(len(pairs), generator=random) < torch.sigmoid(reward[:, 0] - reward[:, 1])
    pairs = torch.where(right[:, None, None], pairs, pairs.flip(1))
    return World(pairs, texts(2 * settings.test, random).reshape(-1, 2, LENGTH), model.requires_grad_(False))


def degraded(whole: Tensor, level: Tensor, levels: int, keys: bool, random: torch.Generator) -> Tensor:
    """Texts [N, T] with ceil(level k / (levels - 1)) of their k keywords masked, or as many fillers."""
    keyword = whole < KEYWORDS
    number = -(-level * keyword.sum(-1) // (levels - 1))
    masked = keyword if keys else ~keyword
    order = torch.where(masked, torch.rand(whole.shape, generator=random), 2.0).argsort(-1).argsort(-1)
    return torch.where(masked & (order < number[:, None]), MASK, whole)


def layout_of(pairs: int, graded: bool) -> Layout:
    """Pairs with responses [preferred, other] and, where graded, a degraded text of each behind them."""
    one = Comparison("", "", ("", ""), (Edge(0, 1),))
    if graded:
        one = one.with_auxiliary([Auxiliary("degree", "", group=side, sign=0.5, label=0) for side in (0, 1)])
    count = pairs * (2 + len(one.auxiliary))
    return Layout.of([one] * pairs, [LENGTH] * count)


def batches(settings: Settings, pairs: Tensor, random: torch.Generator) -> Iterator[Tensor]:
    for _ in range(settings.steps):
        yield pairs[torch.randint(len(pairs), (settings.batch,), generator=random)]


def train(settings: Settings, world: World, arm: str, pairs: int, seed: int) -> tuple[Model, DegreeLoss | None]:
    """The policy after training, and its head."""
    rate = settings.lower_rate if arm in TUNED else settings.rate
    random, noise = (torch.Generator().manual_seed(1_000 * seed + stream) for stream in (1, 2))
    model = Model(settings.width)
    model.load_state_dict(world.reference.state_dict())
    graded = arm not in (DPO, TUNED[0])
    options = {"beta": settings.beta}
    if graded:
        options |= {"degree.gamma": settings.gamma, "degree.levels": settings.levels}
    objective = get("degree_spo" if graded else "dpo").objective(**options)
    objective.prepare({"width": settings.width})
    layout = layout_of(settings.batch, graded)
    counts = layout.counts()
    response = torch.arange(layout.responses).repeat_interleave(LENGTH)
    own = {"params": list(objective.parameters()), "lr": objective.rate_factor * rate}
    optimizer = torch.optim.Adam([{"params": list(model.parameters())}, own], lr=rate)
    for batch in batches(settings, world.pairs[:pairs], random):
        rows, now = batch, layout
        if graded:
            level = torch.randint(settings.levels, (settings.batch * 2,), generator=noise)
            less = degraded(batch.flatten(0, 1), level, settings.levels, arm != OTHERS, noise)
            label = level if arm != SHUFFLED else level[torch.randperm(len(level), generator=noise)]
            rows = torch.cat([batch, less.reshape(batch.shape)], 1)
            now = replace(layout, auxiliary=relabelled(layout.auxiliary, label))
        flat = rows.flatten(0, 1)
        logps, states = model(flat)
        reference = Scores(world.reference(flat)[0].flatten(), response)
        policy = Scores(logps.flatten(), response, {"states": states.flatten(0, 1)})
        loss = objective(policy, reference, now).loss(counts)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model, next((part for part in objective.modules() if isinstance(part, DegreeLoss)), None)


def relabelled(auxiliary: Auxiliaries, label: Tensor) -> Auxiliaries:
    return replace(auxiliary, label=label)


@torch.no_grad()
def measure(
    settings: Settings, world: World, model: Model, head: DegreeLoss | None, random: torch.Generator
) -> dict[str, float]:
    flat = world.test.flatten(0, 1)
    implicit = (model(flat)[0] - world.reference(flat)[0]).sum(-1)
    reward = WORTH[flat].sum(-1)
    margin, truth = (x.reshape(-1, 2)[:, 0] - x.reshape(-1, 2)[:, 1] for x in (implicit, reward))
    decided = truth != 0
    found = {
        "accuracy": float((margin[decided] * truth[decided] > 0).double().mean()),
        "rank correlation": float(torch.corrcoef(torch.stack([ranks(implicit), ranks(reward)]))[0, 1]),
    }
    if head is not None and head.head is not None:
        level = torch.randint(settings.levels, (len(flat),), generator=random)
        pooled = model(degraded(flat, level, settings.levels, True, random))[1].mean(1)
        found["degree accuracy"] = float((head.head(pooled).argmax(-1) == level).double().mean())
    return found


def ranks(values: Tensor) -> Tensor:
    """Ranks [N], equal values sharing their mean."""
    _, place, count = values.unique(return_inverse=True, return_counts=True)
    below = count.cumsum(0) - count
    return (below + (count - 1) / 2)[place].double()


def cell(arm: str, pairs: int) -> str:
    return f"{arm}, {pairs} pairs"


def run(settings: Settings, seed: int) -> Rows:
    world = make_world(settings, seed)
    rows = {}
    for pairs, arms in ((settings.few, (DPO, DEGREES, SHUFFLED, OTHERS, *TUNED)), (settings.many, (DPO, DEGREES))):
        for arm in arms:
            model, head = train(settings, world, arm, pairs, seed)
            random = torch.Generator().manual_seed(10_000 + seed)
            rows[cell(arm, pairs)] = measure(settings, world, model, head, random)
    return rows


def gain(r: Results, pairs: int, over: str = DPO, metric: str = "accuracy") -> Estimate:
    return r.difference(cell(DEGREES, pairs), cell(over, pairs), metric)


def _over_dpo(rows: Rows, arm: str, pairs: int) -> float:
    return rows[cell(arm, pairs)]["accuracy"] - rows[cell(DPO, pairs)]["accuracy"]


def _shrinks(r: Results) -> Estimate:
    few, many = r.settings.few, r.settings.many
    return r.over(
        f"gain with {few} pairs minus gain with {many}",
        lambda rows: _over_dpo(rows, DEGREES, few) - _over_dpo(rows, DEGREES, many),
    )


CRITERIA = (
    Criterion("better", "with few pairs the degree loss raises the accuracy of DPO",
              lambda r: gain(r, r.settings.few).above(0.0)),
    Criterion("degrees matter", "with few pairs it is better than with labels drawn at random",
              lambda r: gain(r, r.settings.few, SHUFFLED).above(0.0)),
    Criterion("fewer pairs, more gain", "the gain is larger with few pairs than with many",
              lambda r: _shrinks(r).above(0.0)),
    Criterion("harm", "with few pairs the gain is negative", lambda r: gain(r, r.settings.few).below(0.0), "refutes"),
    Criterion("any labels", "labels drawn at random do as well, within 0.005",
              lambda r: gain(r, r.settings.few, SHUFFLED).below(0.005), "refutes"),
    Criterion("training less", "with few pairs, DPO at the lower rate beats degrees at either rate",
              lambda r: every(*(r.difference(cell(TUNED[0], r.settings.few), cell(arm, r.settings.few), "accuracy")
                                .above(0.0) for arm in (DEGREES, TUNED[1]))), "refutes"),
    Criterion("with many pairs", "with many pairs the degree loss still raises the accuracy of DPO",
              lambda r: gain(r, r.settings.many).above(0.0), "noted"),
    Criterion("rank", "with few pairs it raises the rank correlation with the true reward",
              lambda r: gain(r, r.settings.few, metric="rank correlation").above(0.0), "noted"),
    Criterion("key content", "masking keywords is better than masking as many fillers",
              lambda r: gain(r, r.settings.few, OTHERS).above(0.0), "noted"),
    Criterion("head", "the head tells degrees better than chance, 1/K",
              lambda r: r.mean(cell(DEGREES, r.settings.few), "degree accuracy").above(1 / r.settings.levels), "noted"),
)  # fmt: skip


def plot(r: Results, figure: Figure) -> None:
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, metric in ((left, "accuracy"), (right, "rank correlation")):
        bars(axes, r, metric)
        axes.set(xlabel=metric, xlim=(0.6, 1))
    left.invert_yaxis()


STUDY = Study(
    slug="spo",
    title="Telling degrees beside preferences",
    claim="Training a policy's states to tell how much key content was taken out of a response improves the preference "
    "method beside it, most where pairs are few.",
    source="arXiv 2409.17791",
    settings=Settings,
    run=run,
    metrics={
        "accuracy": "share of held-out pairs whose implicit rewards are in the order of the true ones",
        "rank correlation": "Spearman's, of implicit and true reward over held-out texts",
        "degree accuracy": "share of degraded held-out texts whose level the head tells",
    },
    criteria=CRITERIA,
    tiny={"few": 8, "many": 16, "test": 20, "corpus": 20, "fitting": 2, "steps": 3, "batch": 4, "width": 6},
    seeds=8,
    plot=plot,
)
