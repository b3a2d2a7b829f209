"""The data of ``tests/vectors/methods.json`` that is not pairs of log-probabilities, as an objective sees it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from rather.data.types import Auxiliary, Comparison, Edge
from rather.objectives.scores import Layout, Scores


def groups(data: dict[str, Any]) -> tuple[Scores, Scores, Layout]:
    """Responses with token log-probabilities under policy and reference, and a score each, in float64."""
    comparisons, lengths = [], []
    for number, scores in enumerate(data["scores"]):
        edges = tuple(Edge(i, j) for i, a in enumerate(scores) for j, b in enumerate(scores) if a > b)
        comparisons.append(Comparison(f"g{number}", "", ("",) * len(scores), edges, scores=tuple(scores)))
        lengths += [len(tokens) for tokens in data["policy"][number]]
    layout = Layout.of(comparisons, lengths)
    response = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    policy, reference = (
        Scores(vector([x for group in data[side] for tokens in group for x in tokens]), response)
        for side in ("policy", "reference")
    )
    return policy, reference, replace(layout, value=vector([x for scores in data["scores"] for x in scores]))


def embeddings(data: dict[str, Any]) -> tuple[Scores, None, Layout]:
    """Pairs of embeddings with the weights of their planes and the probability of their order, in float64."""
    pairs = len(data["chosen"])
    ones = torch.ones(pairs, dtype=torch.long)
    probability = vector([float("nan") if p is None else p for p in data["probability"]])
    layout = replace(Layout.of_pairs(ones, ones), probability=probability)
    extras = {"embedding": vector(data["chosen"] + data["rejected"]), "gate": vector(data["gate"] * 2)}
    zeros = torch.zeros(2 * pairs, dtype=torch.float64)
    return Scores(zeros, torch.arange(2 * pairs), extras), None, layout


def tokens(data: dict[str, Any]) -> tuple[Scores, Scores, Layout]:
    """Pairs with token log-probabilities, chosen ones first, and what a model tells of each token, in float64.

    Hidden states are zeros of one layer; where masks start they do not enter.
    """
    lengths = torch.tensor([len(row) for row in data["policy"]])
    response = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    flat = {name: vector([x for row in data[name] for x in row]) for name in ("policy", "reference", "kl", "weight")}
    extras = {"kl": flat["kl"], "weight": flat["weight"]}
    of_reference = {
        "activations": vector([x for row in data["activations"] for x in row]),
        "layers": torch.zeros(len(response), 1, 2, dtype=torch.float64),
    }
    pairs = len(lengths) // 2
    layout = Layout.of_pairs(lengths[:pairs], lengths[pairs:])
    return Scores(flat["policy"], response, extras), Scores(flat["reference"], response, of_reference), layout


def auxiliaries(data: dict[str, Any]) -> tuple[Scores, Scores, Layout]:
    """Pairs with further responses, each response's log-probability spread evenly over its tokens, in float64.

    Hidden states are zeros; a head that starts at zero does not look at them.
    """
    made, lengths = [], []
    for number, one in enumerate(data["comparisons"]):
        items = [
            Auxiliary(role, "", group=group, sign=sign, label=label) for role, group, sign, label in one["auxiliary"]
        ]
        made.append(Comparison(f"a{number}", "", ("", ""), (Edge(0, 1),)).with_auxiliary(items))
        lengths += one["lengths"]
    layout = Layout.of(made, lengths)
    response = torch.repeat_interleave(torch.arange(len(lengths)), layout.lengths)
    extras = {"states": torch.zeros(len(response), 2, dtype=torch.float64)}
    policy, reference = (
        Scores(
            (vector([x for one in data["comparisons"] for x in one[side]]) / layout.lengths)[response],
            response,
            extras,
        )
        for side in ("policy", "reference")
    )
    return policy, reference, layout


def facts(data: dict[str, Any]) -> dict[str, Any]:
    """Of the model that ``tokens`` and ``auxiliaries`` are from."""
    return {"width": 2, "layers": 1, "activations": tuple(data.get("kinds", ()))}


def vector(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)
