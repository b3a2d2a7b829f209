"""``toy:shop``: a recommender as a policy, a softmax over the whole catalogue.

log pi(item | user) = log softmax_i f(u).v_i,   f: one hidden layer, from 12 of the user's 16 features
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from rather.data.types import Comparison
from rather.objectives.scores import Layout, Scores
from rather.policies.base import Batch, Draw, Encoded
from rather.policies.encoding_report import EncodingReport
from rather.policies.settings import PolicySettings
from rather.policies.toys import load_weights, read_toy, save_weights, trained_once, weights_hash
from rather.worlds.query import QueryOptions
from rather.worlds.shop.truth import FEATURES, ITEMS, SEEN, TRAINING_USERS, USERS, Shop, open_shop, taken_ranks

_VERSION = 1  # of the warm start; raise it when that changes
_WARM_STEPS, _WARM_BATCH, _WARM_RATE = 60, 128, 0.02


class ShopModelOptions(QueryOptions):
    seed: int = Field(0, ge=0, description="of the shop and the warm start; the data's must be the same")
    weights: str | None = Field(None, description="folder of a trained copy")


class Recommender(nn.Module):
    """Scores of all items, users [N] -> [N, 300], as log-probabilities. Items and users are given, f is trained."""

    def __init__(self, shop: Shop, hidden: int = 16) -> None:
        super().__init__()
        self.taste = nn.Sequential(nn.Linear(SEEN, hidden), nn.Tanh(), nn.Linear(hidden, FEATURES))
        self.register_buffer("users", torch.tensor(shop.users[:, :SEEN], dtype=torch.float32), persistent=False)
        self.register_buffer("items", torch.tensor(shop.items, dtype=torch.float32), persistent=False)

    def forward(self, users: Tensor) -> Tensor:
        logits = self.taste(self.get_buffer("users")[users]) @ self.get_buffer("items").T
        return logits.log_softmax(-1)


class CataloguePolicy:
    """The policy of the shop: the prompt is a user, a response an item; one element per response.

    Args:
        shop: whose users and items these are.
    """

    kind = "catalogue"
    provides = frozenset({"likelihood"})

    def __init__(self, network: Recommender, shop: Shop) -> None:
        self.network = network
        self.shop = shop
        self.report = EncodingReport()
        self._fingerprint = weights_hash(dict(network.named_parameters()) | dict(network.named_buffers()), "shop")

    def encode(self, comparisons: Sequence[Comparison]) -> list[Encoded]:
        """Users and items as integers; the cost of a comparison is its number of responses."""
        self.report = EncodingReport(comparisons=len(comparisons))
        encoded: list[Encoded] = []
        for comparison in comparisons:
            problem = _problem(comparison)
            if problem:
                self.report.drop(str(comparison.source or comparison.id), problem)
                continue
            items = np.asarray(comparison.responses, np.int64)
            encoded.append(Encoded(comparison, (1,) * len(items), len(items), items))
        self.report.encoded = len(encoded)
        return encoded

    def collate(self, encoded: Sequence[Encoded]) -> Batch:
        """``inputs``: ``user`` [C], and for each response ``item`` [R] and its ``prompt`` [R]."""
        layout = Layout.of([e.comparison for e in encoded], [size for e in encoded for size in e.lengths])
        user = torch.tensor([e.comparison.prompt for e in encoded])
        item = torch.from_numpy(np.concatenate([e.inputs for e in encoded]))
        ids = tuple(e.comparison.id for e in encoded)
        return Batch(layout, {"user": user, "item": item, "prompt": layout.prompt}, ids)

    def draw(self, batch: Batch, seed: int) -> Draw:
        """Nothing: the likelihood is not random."""
        return None

    def score(self, network: nn.Module, batch: Batch, draw: Draw) -> Scores:
        """Log-probability of each item in the whole catalogue, [R], in nats."""
        logps: Tensor = network(batch.inputs["user"])
        item: Tensor = batch.inputs["item"]
        return Scores(logps[batch.inputs["prompt"], item], torch.arange(item.numel(), device=item.device))

    def adapters_off(self, network: nn.Module) -> AbstractContextManager[None] | None:
        return None

    def fingerprint(self) -> str:
        """Hash of the weights at construction, the users and the items."""
        return self._fingerprint

    def save(self, network: nn.Module, folder: Path) -> None:
        """``model.safetensors``; ``toy:shop?weights=FOLDER`` opens it."""
        save_weights(network, Path(folder), {"model": "toy:shop"})

    @torch.no_grad()
    def ranks(self, network: nn.Module) -> np.ndarray:
        """[1500] rank of the taken item among the candidates of each user who is not for training."""
        users = np.arange(TRAINING_USERS, USERS)
        device = next(network.parameters()).device
        scores = network(torch.from_numpy(users).to(device)).double().cpu().numpy()
        return taken_ranks(self.shop, users, scores)

    def check(self, network: nn.Module) -> dict[str, np.ndarray]:
        """Which of 1500 held-out users are served, by check; ``pass_rate``: the taken item comes first (HR@1)."""
        ranks = self.ranks(network)
        return {"pass_rate": ranks == 1, "among the first three": ranks <= 3}

    def illustrate(self, network: nn.Module, path: Path) -> str:
        """Bars of the taken item's rank into ``path``; returns what it shows, in one sentence."""
        from rather.worlds.shop.picture import rank_bars

        rank_bars(self.ranks(network), path)
        return "Held-out users by the rank of the item they took among twenty candidates; the first bar is HR@1"


def open_shop_policy(settings: PolicySettings) -> CataloguePolicy:
    """The policy of ``toy:shop?...``, warm-started on the training users (a second at first use)."""
    options = read_toy(ShopModelOptions, settings)
    shop = open_shop(options.seed)
    network = Recommender(shop)
    if options.weights:
        load_weights(network, options.weights, settings.model)
    else:
        name = f"shop-v{_VERSION}-seed{options.seed}"
        trained_once(network, name, lambda fresh: warm_start(fresh, shop, options.seed))
    return CataloguePolicy(network, shop)


def warm_start(network: nn.Module, shop: Shop, seed: int) -> None:
    """Supervised training from scratch, in place, on what the training users took; global random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in network.modules():
            if isinstance(module, nn.Linear):
                module.reset_parameters()
        taken = torch.tensor(shop.candidates[:TRAINING_USERS, 0])
        optimizer = torch.optim.Adam(network.parameters(), lr=_WARM_RATE)
        for _ in range(_WARM_STEPS):
            users = torch.randint(TRAINING_USERS, (_WARM_BATCH,))
            loss = nn.functional.nll_loss(network(users), taken[users])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()


def _problem(comparison: Comparison) -> str | None:
    if not (isinstance(comparison.prompt, int) and 0 <= comparison.prompt < USERS):
        return f"a prompt of toy:shop is a user, an integer from 0 to {USERS - 1}"
    if not all(isinstance(item, int) and 0 <= item < ITEMS for item in comparison.responses):
        return f"a response of toy:shop is an item, an integer from 0 to {ITEMS - 1}"
    return None
