"""DynamicPO, arXiv 2605.00327: do more random negatives make a recommender worse, and do boundary negatives mend that?

Claim. With many random negatives the mean-margin loss of DMPO spends its gradient on negatives that the model already tells
apart, so accuracy can fall while the loss falls. Keeping only boundary negatives, each with its own beta, prevents it.

World. The shop: 300 items and 3,000 users of 16 features, each user takes the best of 20 candidates, and the recommender
sees 12 of the user's features. It is warm-started by 60 steps of supervised training on 1,500 users, and then trained by 150
steps of Adam (rate 0.02, 128 users a step, beta = 1) on the item each of them took against K of the candidates left, drawn
anew in every step. HR@1 is the share of the other 1,500 users whose item comes first among their 20 candidates.

Arms, for K = 1, 3, 8 and 15. DMPO; DynamicPO over DMPO; the same without the dynamic beta; S-DPO. The start is the
reference.

Verdict. The claim needs: with 8 and with 15 negatives DMPO's HR@1 is not above that with 1 (within 0.005) and is below
that of the start, at a lower loss; DynamicPO's is above DMPO's by at least 0.01 and by more than its interval; and the
share of negatives at the boundary shrinks as DMPO trains. It falls if DMPO's HR@1 grows with K from 1 to 15, or if DynamicPO
is not above DMPO with 8 nor with 15 negatives.

Noted besides. Whether selection alone gives most of the gain, and whether S-DPO, whose softmax finds the hard negatives by
itself, is as good.

The verdict hangs on the negatives being drawn anew. Drawn once for each user (``--set redraw=false``), who is met about 13
times, a single negative is overfitted: DMPO then gains with K, and the claim falls by its own rule.

Our reading: the world and its sizes. The paper's language models are not tried here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import Field
from torch import nn

from rather.methods.registry import get
from rather.objectives.selection import BoundaryNegatives
from rather.policies.base import Batch, Encoded
from rather.policies.catalogue import CataloguePolicy, Recommender, warm_start
from rather.studies.base import Criterion, Study, StudySettings
from rather.studies.figure import lines
from rather.studies.results import Finding, Results, Rows, every
from rather.worlds.shop.rows import ShopOptions, load_rows
from rather.worlds.shop.truth import TRAINING_USERS, open_shop

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ARMS: dict[str, tuple[str, dict[str, Any]]] = {
    "DMPO": ("dmpo", {}),
    "DynamicPO": ("dynamicpo", {}),
    "selection alone": ("dynamicpo", {"dynamic_beta": False}),
    "S-DPO": ("sdpo", {}),
}
START = "start"


class Settings(StudySettings):
    negatives: tuple[int, ...] = Field((1, 3, 8, 15), min_length=2, description="numbers of negatives K, growing")
    many: int = Field(8, ge=2, le=19, description="K from which on there are many")
    users: int = Field(TRAINING_USERS, ge=16, le=TRAINING_USERS, description="users to train on")
    steps: int = Field(150, ge=10, description="steps of Adam")
    rate: float = Field(0.02, gt=0, description="learning rate")
    batch: int = Field(128, ge=1, description="users of a step")
    beta: float = Field(1.0, gt=0, description="scale of the implicit reward")
    redraw: bool = Field(True, description="draw a user's negatives anew in every step, or else once")


class Shop:
    """The warm-started recommender of a seed, and training on its users."""

    def __init__(self, settings: Settings, seed: int) -> None:
        self.settings, self.seed = settings, seed
        self.truth = open_shop(seed)
        self.start = Recommender(self.truth)
        warm_start(self.start, self.truth, seed)
        self.policy = CataloguePolicy(self.start, self.truth)

    def rows(self, negatives: int) -> list[Encoded]:
        """Every training user's item and as many others, drawn once."""
        options = ShopOptions(k=negatives, users=self.settings.users, split="train", seed=self.seed)
        return self.policy.encode(load_rows(options))

    def batch(self, like: Batch, users: Sequence[int], items: np.ndarray) -> Batch:
        """Users and their items [N, 1 + K], taken ones first, in the layout of another batch of this size."""
        inputs = {"user": torch.tensor(users), "item": torch.from_numpy(items.flatten())}
        return Batch(like.layout, {**like.inputs, **inputs}, like.ids)

    def hit_rate(self, network: nn.Module) -> float:
        return float((self.policy.ranks(network) == 1).mean())

    def train(self, method: str, options: Mapping[str, Any], negatives: int) -> dict[str, float]:
        """Train a copy of the start; every arm sees the same users in the same order, with the same negatives."""
        settings, rows = self.settings, self.rows(negatives)
        every_user, size = self.policy.collate(rows), min(self.settings.batch, len(rows))
        like, fixed = self.policy.collate(rows[:size]), np.stack([row.inputs for row in rows])
        objective = get(method).objective(beta=settings.beta, **options)
        network = deepcopy(self.start)
        optimizer = torch.optim.Adam(network.parameters(), lr=settings.rate)
        random = np.random.default_rng(self.seed)
        before = self._boundary(network, every_user)
        for _ in range(settings.steps):
            users = random.choice(len(rows), size, replace=False)
            items = fixed[users]
            if settings.redraw:
                left = random.permuted(self.truth.candidates[users, 1:], axis=1)
                items = np.concatenate([items[:, :1], left[:, :negatives]], axis=1)
            optimizer.zero_grad()
            self._loss(objective, network, self.batch(like, users.tolist(), items)).backward()
            optimizer.step()
        with torch.no_grad():
            loss = self._loss(objective, network, every_user)
        hits = self.hit_rate(network)
        return {
            "HR@1": hits,
            "change": hits - self.hit_rate(self.start),
            "loss": float(loss),
            "boundary before": before,
            "boundary after": self._boundary(network, every_user),
        }

    def _loss(self, objective: Any, network: nn.Module, batch: Batch) -> torch.Tensor:
        with torch.no_grad():
            reference = self.policy.score(self.start, batch, None)
        outcome = objective(self.policy.score(network, batch, None), reference, batch.layout)
        return outcome.loss(batch.layout.counts())

    @torch.no_grad()
    def _boundary(self, network: nn.Module, batch: Batch) -> float:
        """Share of the negatives at the boundary, mean over users: of DMPO's gradient, what goes to them."""
        kept = BoundaryNegatives()(self.policy.score(network, batch, None).elements, batch.layout).kept
        return float(kept.double().mean())


def cell(arm: str, negatives: int) -> str:
    return f"{arm}, K {negatives}"


def run(settings: Settings, seed: int) -> Rows:
    shop = Shop(settings, seed)
    rows: dict[str, Mapping[str, float]] = {START: {"HR@1": shop.hit_rate(shop.start), "change": 0.0}}
    for negatives in settings.negatives:
        for arm, (method, options) in ARMS.items():
            rows[cell(arm, negatives)] = shop.train(method, options, negatives)
    return rows


def _many(r: Results) -> list[int]:
    return [negatives for negatives in r.settings.negatives if negatives >= r.settings.many]


def _for_many(r: Results, test: Callable[[int], Finding]) -> Finding:
    return every(*(test(negatives) for negatives in _many(r)))


def _collapse(r: Results) -> Finding:
    fewest = cell("DMPO", r.settings.negatives[0])
    return _for_many(r, lambda k: every(
        r.difference(cell("DMPO", k), fewest, "HR@1").below(0.005),
        r.difference(cell("DMPO", k), START, "HR@1").below(0.0),
        r.difference(cell("DMPO", k), fewest, "loss").below(0.0),
    ))  # fmt: skip


def _gain(r: Results, negatives: int, least: float = 0.01) -> Finding:
    """By at least ``least`` in the mean, and by more than the interval."""
    gain = r.difference(cell("DynamicPO", negatives), cell("DMPO", negatives), "HR@1")
    return Finding(gain.mean >= least and gain.low > 0, f"{gain.text()}, asked {least:g} with an interval above 0")


def _shrinks(r: Results) -> Finding:
    return _for_many(
        r,
        lambda k: r.difference(cell("DMPO", k), cell("DMPO", k), "boundary after", "boundary before").below(0.0),
    )


def _grows(r: Results) -> Finding:
    counts = r.settings.negatives
    return r.difference(cell("DMPO", counts[-1]), cell("DMPO", counts[0]), "HR@1").above(0.0)


def _no_gain(r: Results) -> Finding:
    found = [_gain(r, negatives, 0.0) for negatives in _many(r)]
    return Finding(not any(one.holds for one in found), "; ".join(one.found for one in found))


def _mostly_selection(r: Results) -> Finding:
    """Half of DynamicPO's gain over DMPO, or more, without the dynamic beta."""
    return _for_many(r, lambda k: r.over(
        f"HR@1 of selection alone over DMPO, less half of DynamicPO's gain, K {k}",
        lambda rows: rows[cell("selection alone", k)]["HR@1"]
        - (rows[cell("DMPO", k)]["HR@1"] + rows[cell("DynamicPO", k)]["HR@1"]) / 2,
    ).above(0.0))  # fmt: skip


def _softmax_as_good(r: Results) -> Finding:
    return _for_many(r, lambda k: r.difference(cell("S-DPO", k), cell("DynamicPO", k), "HR@1").above(-0.01))


CRITERIA = (
    Criterion("collapse", "with many negatives DMPO's HR@1 is not above that with one (within 0.005) and below the start's, "
              "at a lower loss", _collapse),
    Criterion("gain", "with many negatives DynamicPO's HR@1 is above DMPO's by 0.01 and by more than its interval",
              lambda r: _for_many(r, lambda k: _gain(r, k))),
    Criterion("mechanism", "the share of negatives at the boundary shrinks as DMPO trains", _shrinks),
    Criterion("grows with K", "DMPO's HR@1 is higher with the most negatives than with one", _grows, "refutes"),
    Criterion("no gain", "for no large number of negatives is DynamicPO above DMPO by more than its interval", _no_gain,
              "refutes"),
    Criterion("selection", "selection alone gives more than half of DynamicPO's gain", _mostly_selection, "noted"),
    Criterion("S-DPO", "plain S-DPO is as good as DynamicPO over DMPO, within 0.01", _softmax_as_good, "noted"),
)  # fmt: skip


def plot(r: Results, figure: Figure) -> None:
    left, right = figure.subplots(1, 2)
    series = {arm: {k: cell(arm, k) for k in r.settings.negatives} for arm in ARMS}
    lines(left, r, "change", series)
    left.axhline(0.0, color=left.xaxis.label.get_color(), linewidth=0.6)
    left.set(xlabel="negatives K", ylabel="HR@1 minus that of the start")
    lines(right, r, "loss", {"DMPO": series["DMPO"], "S-DPO": series["S-DPO"]}, log="y")
    right.set(xlabel="negatives K", ylabel="loss after training")


STUDY = Study(
    slug="dynamicpo",
    title="Boundary negatives for a recommender",
    claim="With many random negatives DMPO's accuracy falls while its loss falls; boundary negatives, each with its own "
    "beta, prevent that.",
    source="arXiv 2605.00327",
    settings=Settings,
    run=run,
    metrics={
        "HR@1": "share of held-out users whose item comes first among their candidates",
        "change": "the same minus that of the start",
        "loss": "loss on the training users after training",
        "boundary before": "share of the negatives that are at the boundary before training",
        "boundary after": "the same after training",
    },
    criteria=CRITERIA,
    tiny={"negatives": (1, 8), "users": 200, "steps": 20},
    seeds=8,
    plot=plot,
)
