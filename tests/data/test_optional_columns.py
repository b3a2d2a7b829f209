"""Columns that any format may have beside its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rather.data.load import load
from rather.data.types import Comparison, Edge
from rows import jsonl

PAIR = {"prompt": "p", "chosen": "a", "rejected": "b"}


@pytest.fixture
def only(tmp_path: Path) -> Any:
    """The comparison of one row."""

    def read(row: dict[str, Any], **options: Any) -> Comparison:
        (found,) = load(jsonl(tmp_path / "data.jsonl", row), **options)
        return found

    return read


def test_of_an_edge(only: Any) -> None:
    found = only(PAIR | {"margin": 0.5, "probability": 0.9, "weight": 2})
    assert found.edges == (Edge(0, 1, weight=2.0, probability=0.9, margin=0.5),)
    assert not found.extras


def test_one_value_for_each_edge(only: Any) -> None:
    row = {"prompt": "p", "responses": ["a", "b", "c"], "ranks": [1, 2, 3], "weight": [1, 2, 3], "probability": 0.8}
    edges = [(e.winner, e.loser, e.weight, e.probability) for e in only(row).edges]
    assert edges == [(0, 1, 1.0, 0.8), (0, 2, 2.0, 0.8), (1, 2, 3.0, 0.8)]


def test_margin_given_goes_before_that_of_scores(only: Any) -> None:
    row = {"prompt": "p", "responses": ["a", "b"], "scores": [3, 1]}
    assert only(row).edges == (Edge(0, 1, margin=2.0),)
    assert only(row | {"margin": 9}).edges == (Edge(0, 1, margin=9.0),)


def test_edges_of_the_best_alone(only: Any) -> None:
    row = {"prompt": "p", "responses": ["a", "b", "c"], "ranks": [2, 1, 3]}
    assert only(row, edges="best_vs_rest").edges == (Edge(1, 0), Edge(1, 2))


def test_anything_else_is_kept_as_it_is(only: Any) -> None:
    more = {"rationale": "shorter", "annotator": "ann", "tools": [{"name": "add"}], "ref_chosen_logps": -3.5}
    assert only(PAIR | more | {"nothing": None}).extras == more


@pytest.mark.parametrize(("given", "read"), [("x7", "x7"), (7, "7"), (0, "0")])
def test_id(given: object, read: str, only: Any) -> None:
    assert only(PAIR | {"id": given}).id == read


def test_empty_id_is_none(only: Any) -> None:
    assert only(PAIR | {"id": ""}).id == only(PAIR).id


def test_pair_among_lists_and_list_among_pairs(tmp_path: Path) -> None:
    rows = (PAIR, PAIR | {"prompt": "q"}, PAIR | {"rejected": ["b", "c"]})
    for order in (rows, rows[::-1]):
        assert sorted(len(c.edges) for c in load(jsonl(tmp_path / "data.jsonl", *order))) == [1, 1, 2]
