"""Every registered method has every property, or a declared exception that is real; and its hand-derived values."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import rather
from conformance import given
from rather.methods import dpo
from rather.methods.base import Method, PairOptions, pairwise
from rather.methods.registry import methods
from rather.objectives.links import Logistic, MarginLink
from rather.testing import PROPERTIES, check_method, check_property

VALUES: dict[str, Any] = json.loads((Path(__file__).parents[1] / "vectors" / "methods.json").read_text())


@pytest.mark.parametrize("name", list(methods()))
@pytest.mark.parametrize("property_", PROPERTIES)
def test_property(name: str, property_: str) -> None:
    check_property(methods()[name], property_)


@pytest.mark.parametrize("name", list(methods()))
def test_exceptions_are_known_properties_with_a_reason(name: str) -> None:
    exceptions = methods()[name].exceptions
    assert set(exceptions) <= set(PROPERTIES)
    assert all(len(reason.split()) > 3 for reason in exceptions.values())


BESIDE = {name: table for name, table in VALUES["methods"].items() if "data" in table}


@pytest.mark.parametrize("name", [name for name in methods() if name not in BESIDE])
def test_values(name: str) -> None:
    """The loss of two pairs, worked out by hand in ``tests/vectors/methods.json``."""
    table = VALUES["methods"][name]
    data = {key: torch.tensor(value, dtype=torch.float64) for key, value in VALUES["pairs"].items()}
    lengths = {key: data.pop(key).long() for key in ("chosen_lengths", "rejected_lengths")}
    out = rather.loss(name, **data, **lengths, **table["options"])
    torch.testing.assert_close(out.loss.item(), table["loss"], rtol=1e-9, atol=1e-11)
    if "per_pair" in table:
        torch.testing.assert_close(out.per_pair.tolist(), table["per_pair"], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", list(BESIDE))
def test_values_beside_pairs(name: str) -> None:
    """The loss of methods that need more than log-probabilities of pairs, which they refuse."""
    table = BESIDE[name]
    policy, reference, layout = getattr(given, table["data"])(VALUES[table["data"]])
    objective = methods()[name].objective(**table["options"]).eval()
    objective.prepare(given.facts(VALUES[table["data"]]))
    out = objective.double()(policy, reference, layout)
    torch.testing.assert_close(out.loss(layout.counts()).item(), table["loss"], rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(out.per_edge.tolist(), table["per_edge"], rtol=1e-9, atol=1e-11)
    pairs = {key: torch.tensor(value, dtype=torch.float64) for key, value in VALUES["pairs"].items()}
    lengths = {key: pairs.pop(key).long() for key in ("chosen_lengths", "rejected_lengths")}
    refused = "needs the score|no embedding|log-probability of each token|responses of its own making"
    with pytest.raises(rather.UserError, match=refused):
        rather.loss(name, **pairs, **lengths)


def test_every_method_has_values() -> None:
    assert set(VALUES["methods"]) == set(methods())


def broken(**changes: Any) -> Method:
    return replace(dpo.METHOD, name="broken", **changes)


class WrongSign(MarginLink):
    def curve(self, z: torch.Tensor) -> torch.Tensor:
        return -nn.functional.logsigmoid(-z)


class Detached(MarginLink):
    def curve(self, z: torch.Tensor) -> torch.Tensor:
        return -nn.functional.logsigmoid(z.detach()) + 0.1 * z


class Overflowing(MarginLink):
    def curve(self, z: torch.Tensor) -> torch.Tensor:
        return torch.log1p(torch.exp(-z))


class MeanOfBatch(MarginLink):
    def curve(self, z: torch.Tensor) -> torch.Tensor:
        return -nn.functional.logsigmoid(z - z.mean())


@pytest.mark.parametrize(
    ("link", "caught"),
    [
        (WrongSign(), {"direction", "dpo_limit"}),
        (Detached(), {"gradient", "dpo_limit"}),
        (Overflowing(), {"extremes"}),
        (MeanOfBatch(), {"split", "direction", "dpo_limit"}),
    ],
)
def test_the_suite_catches_a_wrong_link(link: MarginLink, caught: set[str]) -> None:
    def build(options: PairOptions) -> Any:
        return pairwise(options, link)

    method = broken(build=build, source="a test")
    with pytest.raises(AssertionError) as failure:
        check_method(method)
    found = {line.split(":")[0] for line in str(failure.value).splitlines()}
    assert caught <= found
    assert "metrics" not in found


def test_the_suite_catches_a_reference_that_is_trained() -> None:
    class Leaky(type(dpo.METHOD.objective())):
        def forward(self, policy: Any, reference: Any, layout: Any) -> Any:
            outcome = super().forward(policy, reference, layout)
            leak = replace(outcome.terms[0], values=outcome.terms[0].values + 0 * reference.elements.sum())
            extra = replace(outcome.terms[0], values=reference.elements, coefficient=1e-3)
            return replace(outcome, terms=(leak, extra))

    def build(options: PairOptions) -> Any:
        return Leaky(beta=options.beta, link=Logistic())

    with pytest.raises(AssertionError, match="reference: the reference got a gradient"):
        check_method(broken(build=build, source="a test"))


def test_the_suite_catches_a_stale_exception() -> None:
    with pytest.raises(AssertionError, match="declares an exception to 'split', but the property holds"):
        check_method(broken(exceptions={"split": "no reason"}))
    with pytest.raises(AssertionError, match="unknown property 'beauty'"):
        check_method(broken(exceptions={"beauty": "no reason"}))


def test_the_suite_catches_missing_words() -> None:
    with pytest.raises(AssertionError, match="no equation"):
        check_property(broken(equation=" "), "declaration")
    with pytest.raises(AssertionError, match=r"does not name arXiv 1234\.56789"):
        check_property(broken(source="arXiv 1234.56789"), "declaration")
