"""DPO with rationales, arXiv 2407.14477: does a reason beside each preference save preferences?

Claim. Raising the likelihood of a text that says why the chosen response is better, next to the DPO loss, saves annotated
pairs (a third will do) and converges faster; the reasons matter, not only one more term.

World. A pair is a difference of 12 features d ~ N(0, 1); the reward is w . d with 4 entries of w not zero, and
Bradley-Terry draws which end is preferred. The rationale of a pair names one feature, drawn from softmax_i(2 w_i d_i) of the
preferred end minus the other. The policy scores a pair by theta . d, and gives a rationale the probability
softmax_i(theta_i d_i): both losses meet in the same theta. Accuracy is over noise-free pairs.

Arms, on the same n pairs. DPO; rationale_dpo with gamma 1 in both links, and with gamma 0.001 (the released command's); with
rationales permuted among the pairs, which still tell how often a feature is named; with features named at random, which tell
nothing; and, as a baseline that is given more than it could know, DPO with the ridge that does best on the test pairs.

Verdict. The claim needs: with 10 and 20 pairs rationale_dpo is better than DPO with twice as many, with 40 not worse by more
than 0.02; its gain over DPO shrinks as pairs grow; permuted rationales lose more than half of the gain, on average over n up
to 40. It falls if permuted rationales do as well as true ones, within 0.01.

Our reading: everything but the two loss formulas; the paper's own numbers are of language models.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from pydantic import Field
from torch import Tensor

from rather.data.types import Auxiliary, Comparison, Edge
from rather.methods.registry import get
from rather.objectives.scores import Layout, Scores
from rather.studies.base import Criterion, Study, StudySettings
from rather.studies.figure import bars, lines
from rather.studies.results import Estimate, Results, Rows, every

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RIDGES = (0.0, 0.003, 0.01, 0.03, 0.1, 0.3)
ARMS = {
    "DPO": ("dpo", {}),
    "rationales": ("rationale_dpo", {"gamma": 1.0}),
    "rationales, logsigmoid": ("rationale_dpo", {"gamma": 1.0, "link": "logsigmoid"}),
    "rationales, gamma 0.001": ("rationale_dpo", {"gamma": 0.001}),
    "permuted rationales": ("rationale_dpo", {"gamma": 1.0}),
    "random rationales": ("rationale_dpo", {"gamma": 1.0}),
}


class Settings(StudySettings):
    features: int = Field(12, ge=2, description="features of a response")
    relevant: int = Field(4, ge=1, description="features that the reward looks at")
    sizes: tuple[int, ...] = Field((10, 20, 40, 80, 160), description="numbers of pairs n, each twice the one before")
    test: int = Field(4_000, ge=10, description="noise-free pairs on which accuracy is measured")
    sharpness: float = Field(2.0, ge=0, description="factor in the softmax that a rationale's feature is drawn from")
    steps: int = Field(400, ge=1, description="full-batch Adam steps")
    rate: float = Field(0.05, gt=0, description="learning rate")


@dataclass(frozen=True)
class World:
    """Differences [n, d] of the preferred end minus the other, named features [n], test differences and the truth [d]."""

    differences: Tensor
    named: Tensor
    test: Tensor
    truth: Tensor
    random: torch.Generator


def make_world(settings: Settings, seed: int) -> World:
    random = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random, dtype=torch.float64)

    truth = torch.zeros(settings.features, dtype=torch.float64)
    truth[torch.randperm(settings.features, generator=random)[: settings.relevant]] = normal(settings.relevant)
    drawn = normal(settings.sizes[-1] * 2, settings.features)
    preferred = torch.rand(len(drawn), generator=random, dtype=torch.float64) < torch.sigmoid(drawn @ truth)
    differences = torch.where(preferred[:, None], drawn, -drawn)
    named = torch.multinomial(
        torch.softmax(settings.sharpness * truth * differences, -1), 1, generator=random
    ).squeeze(-1)
    return World(differences, named, normal(settings.test, settings.features), truth, random)


def fit(settings: Settings, differences: Tensor, named: Tensor, arm: str, ridge: float = 0.0) -> Tensor:
    """[d] theta after Adam on the method's mean loss, from zero."""
    method, options = ARMS[arm]
    objective = get(method).objective(beta=1.0, **options)
    pair = Comparison("", "", ("", ""), (Edge(0, 1),)).with_auxiliary([Auxiliary("rationale", "", prompt="why")])
    layout = Layout.of([pair] * len(differences), [1] * 3 * len(differences))
    counts, response = layout.counts(), torch.arange(layout.responses)
    reference = Scores(torch.zeros(layout.responses, dtype=torch.float64), response)
    theta = torch.zeros(differences.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([theta], lr=settings.rate)
    rows = torch.arange(len(differences))
    for _ in range(settings.steps):
        parts = theta * differences
        margin = parts.sum(-1)
        elements = torch.stack([margin, torch.zeros_like(margin), parts.log_softmax(-1)[rows, named]], 1).flatten()
        loss = objective(Scores(elements, response), reference, layout).loss(counts)
        optimizer.zero_grad()
        (loss + ridge / 2 * theta @ theta).backward()
        optimizer.step()
    return theta.detach()


def accuracy(world: World, theta: Tensor) -> float:
    right = (world.test @ theta) * (world.test @ world.truth) > 0
    return float(right.double().mean())


def cell(arm: str, pairs: int) -> str:
    return f"{arm}, n {pairs}"


def run(settings: Settings, seed: int) -> Rows:
    world = make_world(settings, seed)
    rows: dict[str, dict[str, float]] = {}
    for pairs in (*settings.sizes, settings.sizes[-1] * 2):
        differences, named = world.differences[:pairs], world.named[:pairs]
        told = {
            "permuted rationales": named[torch.randperm(pairs, generator=world.random)],
            "random rationales": torch.randint(settings.features, (pairs,), generator=world.random),
        }
        for arm in ARMS if pairs in settings.sizes else ("DPO",):
            theta = fit(settings, differences, told.get(arm, named), arm)
            rows[cell(arm, pairs)] = {"accuracy": accuracy(world, theta)}
        if pairs == settings.sizes[0]:
            best = max(accuracy(world, fit(settings, differences, named, "DPO", ridge)) for ridge in RIDGES)
            rows[cell("DPO, best ridge", pairs)] = {"accuracy": best}
    return rows


def gain(rows: Rows, arm: str, pairs: int) -> float:
    return rows[cell(arm, pairs)]["accuracy"] - rows[cell("DPO", pairs)]["accuracy"]


def _few(r: Results) -> tuple[int, ...]:
    return r.settings.sizes[:3]


def _over_few(r: Results, what: str, number: Callable[[Rows, int], float]) -> Estimate:
    """Mean over the three smallest n, and over seeds."""
    sizes = _few(r)
    return r.over(what, lambda rows: sum(number(rows, pairs) for pairs in sizes) / len(sizes))


def _against_twice(r: Results, index: int) -> Estimate:
    pairs = r.settings.sizes[index]
    return r.difference(cell("rationales", pairs), cell("DPO", 2 * pairs), "accuracy")


def _shrinks(r: Results) -> Estimate:
    first, last = r.settings.sizes[0], r.settings.sizes[-1]
    return r.over(
        f"gain with {first} pairs minus gain with {last}",
        lambda rows: gain(rows, "rationales", first) - gain(rows, "rationales", last),
    )


def _lost(r: Results, arm: str) -> Estimate:
    return _over_few(
        r, f"half of the gain minus the gain of {arm}",
        lambda rows, pairs: gain(rows, "rationales", pairs) / 2 - gain(rows, arm, pairs),
    )  # fmt: skip


def _minus_true(r: Results, arm: str) -> Estimate:
    return _over_few(
        r, f"accuracy of {arm} minus that of true ones",
        lambda rows, pairs: gain(rows, arm, pairs) - gain(rows, "rationales", pairs),
    )  # fmt: skip


CRITERIA = (
    Criterion("twice the pairs", "with 10 and 20 pairs rationales beat DPO with twice as many, with 40 they are not "
              "worse by more than 0.02",
              lambda r: every(*(_against_twice(r, i).above(b) for i, b in enumerate((0.0, 0.0, -0.02))))),
    Criterion("shrinking", "the gain shrinks from the fewest pairs to the most", lambda r: _shrinks(r).above(0.0)),
    Criterion("reasons matter", "permuted rationales lose more than half of the gain, on average over n up to 40",
              lambda r: _lost(r, "permuted rationales").above(0.0)),
    Criterion("regularisation", "permuted rationales do as well as true ones, within 0.01",
              lambda r: _minus_true(r, "permuted rationales").above(-0.01), "refutes"),
    Criterion("random", "features named at random lose all of the gain: they are not better than DPO by 0.01",
              lambda r: _over_few(r, "gain of random rationales",
                                  lambda rows, n: gain(rows, "random rationales", n)).below(0.01), "noted"),
    Criterion("links", "the two links differ by less than 0.01",
              lambda r: _minus_true(r, "rationales, logsigmoid").within(-0.01, 0.01), "noted"),
    Criterion("weight", "gamma 0.001 gives less than half of the gain",
              lambda r: _lost(r, "rationales, gamma 0.001").above(0.0), "noted"),
    Criterion("ridge", "with the fewest pairs rationales beat DPO with the best ridge, chosen on the test pairs",
              lambda r: r.difference(cell("rationales", r.settings.sizes[0]),
                                     cell("DPO, best ridge", r.settings.sizes[0]), "accuracy").above(0.0), "noted"),
)  # fmt: skip


def plot(r: Results, figure: Figure) -> None:
    left, right = figure.subplots(1, 2)
    sizes = r.settings.sizes
    shown = [arm for arm in ARMS if arm != "rationales, logsigmoid"]
    series: dict[str, dict[Any, str]] = {arm: {pairs: cell(arm, pairs) for pairs in sizes} for arm in shown}
    series["DPO"][2 * sizes[-1]] = cell("DPO", 2 * sizes[-1])
    lines(left, r, "accuracy", series, log="x")
    left.set(xlabel="pairs n", ylabel="accuracy on noise-free pairs")
    bars(right, r, "accuracy", [cell(arm, sizes[0]) for arm in (*ARMS, "DPO, best ridge")])
    right.set(xlabel="accuracy on noise-free pairs", xlim=(0.5, 1))


STUDY = Study(
    slug="rationales",
    title="Reasons beside preferences",
    claim="Raising the likelihood of the reason for each preference beside the DPO loss saves annotated pairs, because of "
    "what the reasons say.",
    source="arXiv 2407.14477",
    settings=Settings,
    run=run,
    metrics={"accuracy": "share of noise-free pairs that theta orders as the true reward does"},
    criteria=CRITERIA,
    tiny={"sizes": (4, 8, 16), "test": 50, "steps": 5},
    seeds=10,
    plot=plot,
)
