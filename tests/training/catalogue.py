"""A small policy with everything the loop knows of: context-dependent logits over a catalogue of items.

``catalogue:items=12`` opens it by name; ``noise`` gives it a draw, ``adapters`` a low-rank part that can be switched
off.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from rather.data.types import Comparison, Edge
from rather.objectives.scores import Layout, Scores
from rather.policies.base import Batch, Encoded
from rather.policies.registry import register_policy
from rather.policies.settings import PolicySettings

ITEMS, CONTEXTS, WIDTH = 12, 8, 6

PARTS: dict[str, dict[str, Any]] = {
    "power_dl": {"method": "power_dl", "gamma": 0.3, "eta": 0.01},
    **{
        f"dynamicpo-{k}": {"method": "dynamicpo", "model": "toy:shop", "data": f"world:shop?k={k}&users=60"}
        for k in (1, 3, 7, 15)
    },
    "labels-of-lists": {
        "method": "sdpo",
        "labels.gamma": 0.3,
        "model": "toy:shop",
        "data": "world:shop?k=7&users=60",
    },
}
"""Runs whose objective remembers something of each example, or selects among the edges of a list."""


class Network(nn.Module):
    def __init__(self, *, adapters: bool = False, seed: int = 7) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.contexts = nn.Parameter(torch.randn(CONTEXTS, WIDTH, generator=generator))
        self.items = nn.Parameter(torch.randn(WIDTH, ITEMS, generator=generator))
        self.bias = nn.Parameter(torch.zeros(ITEMS))
        self.dropout = nn.Dropout(0.0)
        self.register_buffer("calls", torch.zeros(()), persistent=True)
        self.adapter = nn.Parameter(torch.zeros(WIDTH, ITEMS)) if adapters else None
        self.adapters_on = True
        if adapters:
            for parameter in (self.contexts, self.items, self.bias):
                parameter.requires_grad_(False)

    def forward(self, context: Tensor, item: Tensor) -> Tensor:
        weight = self.items + self.adapter if self.adapter is not None and self.adapters_on else self.items
        logits = self.dropout(self.contexts)[context] @ weight + self.bias
        return logits.log_softmax(-1).gather(1, item[:, None])[:, 0]


class CataloguePolicy:
    kind = "catalogue"
    provides = frozenset({"likelihood", "tokens"})

    def __init__(self, *, adapters: bool = False, noise: bool = False, dropout: float = 0.0) -> None:
        self.network: nn.Module = Network(adapters=adapters)
        self.network.dropout.p = dropout  # type: ignore[union-attr]
        self.noise = noise
        self.passes = 0  # forward passes over the network

    def encode(self, comparisons: Sequence[Comparison]) -> list[Encoded]:
        return [
            Encoded(
                c, tuple(len(r) for r in c.responses), sum(len(r) for r in c.responses), (int(c.prompt), c.responses)
            )
            for c in comparisons
        ]

    def collate(self, encoded: Sequence[Encoded]) -> Batch:
        lengths = [size for item in encoded for size in item.lengths]
        layout = Layout.of([item.comparison for item in encoded], lengths)
        context = [item.inputs[0] for item in encoded for response in item.inputs[1] for _ in response]
        items = [int(i) for item in encoded for response in item.inputs[1] for i in response]
        response = torch.repeat_interleave(torch.arange(layout.responses), layout.lengths)
        inputs = {"context": torch.tensor(context), "item": torch.tensor(items), "response": response}
        return Batch(layout, inputs, tuple(item.comparison.id for item in encoded))

    def draw(self, batch: Batch, seed: int) -> Any:
        if not self.noise:
            return None
        values = [(hash((int(key), seed)) % 1000) / 1000 for key in batch.layout.key]
        return torch.tensor(values)[batch.layout.prompt][batch.inputs["response"]]

    def score(self, network: nn.Module, batch: Batch, draw: Any) -> Scores:
        self.passes += 1
        logps = network(batch.inputs["context"], batch.inputs["item"])
        return Scores(logps if draw is None else logps * (1 + draw), batch.inputs["response"])

    def adapters_off(self, network: nn.Module) -> Any:
        return _switched_off(network) if network.adapter is not None else None

    def fingerprint(self) -> str:
        parts = [self.network.contexts, self.network.items, self.network.bias]
        return hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in parts)).hexdigest()  # type: ignore[union-attr]

    def save(self, network: nn.Module, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        save_file({n: t.detach().contiguous() for n, t in network.state_dict().items()}, folder / "model.safetensors")


@contextmanager
def _switched_off(network: Any) -> Iterator[None]:
    network.adapters_on = False
    try:
        yield
    finally:
        network.adapters_on = True


def open_catalogue(settings: PolicySettings) -> CataloguePolicy:
    options = set(settings.model.partition(":")[2].split(","))
    return CataloguePolicy(
        adapters=settings.lora, noise="noise" in options, dropout=0.3 if "dropout" in options else 0.0
    )


register_policy("catalogue", open_catalogue)


def comparisons(number: int = 40, *, seed: int = 3, longest: int = 5) -> list[Comparison]:
    """Pairs of item sequences; the chosen one tends to smaller items, so that there is something to learn."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for index in range(number):
        sizes = torch.randint(1, longest + 1, (2,), generator=generator).tolist()
        sequences = [torch.randint(0, ITEMS, (size,), generator=generator).tolist() for size in sizes]
        sequences.sort(key=lambda s: sum(s) / len(s))
        prompt = str(index % CONTEXTS)
        made.append(Comparison(f"e{index}", prompt, (tuple(sequences[0]), tuple(sequences[1])), (Edge(0, 1),)))
    return made


def write(path: Path, number: int = 40, **options: Any) -> Path:
    """The same as a file that the loader reads: items as text."""
    rows = [
        {"id": c.id, "prompt": c.prompt, "chosen": c.responses[0], "rejected": c.responses[1]}
        for c in comparisons(number, **options)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
