"""Differential information of two language models, against the plain way; and the command."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from rather.cli.audit import app
from rather.data.types import Comparison, Edge
from rather.errors import UserError
from rather.inspection import did
from rather.inspection.did_models import information, sampled_entropy
from rather.rewards.opening import open_language_model
from tiny import tiny_model

PAIRS = [
    Comparison("a", "What is a river", ("a long water", "blue"), (Edge(0, 1),)),
    Comparison("b", "Who was first", ("my friend was", "no one at all", "she"), (Edge(0, 1), Edge(0, 2))),
    Comparison("c", "Say hello", ("hello", "good bye"), (Edge(1, 0),)),
    Comparison("d", "Alone", ("nothing to compare",)),
]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("models")
    names = {name: tiny_model(folder / name, seed=seed) for name, seed in (("new", 1), ("old", 2), ("third", 3))}
    return {"folder": folder, **{name: open_language_model(path, precision="fp32") for name, path in names.items()}}


@torch.no_grad()
def plainly(policy: Any, comparison: Comparison) -> tuple[list[float], list[torch.Tensor]]:
    """Summed log-probability of each response, and the logits at its tokens, one response and full logits at a time."""
    sums, logits = [], []
    tokens = policy.encode([comparison])[0].inputs[0]
    for response in tokens.responses:
        ids = torch.tensor([[*tokens.prompt, *response]])
        out = policy.model(input_ids=ids).logits[0, len(tokens.prompt) - 1 : -1]
        logits.append(out)
        sums.append(float(out.double().log_softmax(-1).gather(1, ids[0, len(tokens.prompt) :, None]).sum()))
    return sums, logits


def test_information_is_that_of_the_plain_way(models: dict[str, Any]) -> None:
    new, old, third = models["new"], models["old"], models["third"]
    found = information(new, old, PAIRS, third, max_cost=20)
    changes: dict[str, list[float]] = {"chosen": [], "rejected": []}
    tokens, margins = [], [[], [], []]
    for comparison in PAIRS[:3]:
        both = [plainly(model, comparison) for model in (new, old, third)]
        for edge in comparison.edges:
            for name, end in (("chosen", edge.winner), ("rejected", edge.loser)):
                changes[name].append(both[0][0][end] - both[1][0][end])
            for margin, (sums, _) in zip(margins, both, strict=True):
                margin.append(sums[edge.winner] - sums[edge.loser])
        winner = comparison.edges[0].winner
        q = did.differential_information(both[0][1][winner], both[1][1][winner])
        tokens.append(float(did.entropy(q).mean()))
    for name, values in changes.items():
        mean = getattr(found, name)
        assert mean.count == 4
        assert mean.value == pytest.approx(sum(values) / 4, abs=1e-4)
    assert found.tokens.value == pytest.approx(sum(tokens) / 3, abs=1e-5)
    assert found.tokens.value < math.log(found.vocabulary)
    order = did.order_check(*(torch.tensor(margin) for margin in margins))
    assert found.order is not None
    assert sorted(found.order.beta.tolist()) == pytest.approx(sorted(order.beta.tolist()), rel=1e-3)
    assert found.order.share == order.share


def test_a_model_has_learned_nothing_over_itself(models: dict[str, Any]) -> None:
    found = information(models["new"], models["new"], PAIRS)
    assert found.chosen.value == found.rejected.value == 0
    assert found.tokens.value == pytest.approx(math.log(found.vocabulary), abs=1e-5)
    assert found.order is None


def test_entropy_from_samples(models: dict[str, Any]) -> None:
    found = sampled_entropy(models["new"], models["old"], PAIRS, n=8, max_new_tokens=60, seed=3)
    assert 1 <= len(found.entropy) == len(found.ess) <= 4
    assert all(1 - 1e-9 <= size <= 8 for size in found.ess)
    assert 0 <= found.unfinished < 1
    assert sampled_entropy(models["new"], models["old"], PAIRS, n=8, max_new_tokens=60, seed=3) == found
    with pytest.raises(UserError, match="ended by themselves"):
        sampled_entropy(models["new"], models["old"], PAIRS, n=2, max_new_tokens=1)


def test_models_have_to_share_their_tokens(models: dict[str, Any], tmp_path: Path) -> None:
    other = open_language_model(tiny_model(tmp_path / "plain", chat=False))
    with pytest.raises(UserError, match="different tokens"):
        information(models["new"], other, PAIRS)
    with pytest.raises(UserError, match="no comparison"):
        information(models["new"], models["old"], PAIRS[3:])


def test_the_command(models: dict[str, Any], tmp_path: Path) -> None:
    data = tmp_path / "pairs.jsonl"
    rows = [
        {"prompt": c.prompt, "chosen": c.responses[e.winner], "rejected": c.responses[e.loser]}
        for c in PAIRS
        for e in c.edges
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder = models["folder"]
    words = ["did", "--model", f"{folder}/new", "--reference", f"{folder}/old", "--data", str(data)]
    more = ["--rejected-model", f"{folder}/third", "--samples", "8", "--max-new-tokens", "60"]
    shown = CliRunner().invoke(app, [*words, *more])
    assert shown.exit_code == 0, shown.output
    for text in ("pairs ", "change of a chosen", "entropy of what was learned", "quartiles", "effective number"):
        assert text in shown.output
    told = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert told["chosen"]["count"] == 4
    assert told["order"] is None and told["samples"] is None
    assert 0 < told["token_entropy"]["value"] < math.log(told["vocabulary"])
