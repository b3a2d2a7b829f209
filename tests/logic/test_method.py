"""``logic:FORMULA`` as a method: conformance, options, label models, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import rather
from logic.spec import CLOSED
from rather.errors import UserError
from rather.objectives.preference import Preference
from rather.testing import check_method, make_case
from rather.training.preflight import check_policy

OTHERS = [
    "CPO; ref",
    "ORPO; ref",
    "cCPO; ref",
    "unCPO; ref",
    "Ml -> Mw; given=Mw | Ml",
    "Ml & Refw -> Mw; given=Mw ^ Ml",
    "Ml & Refw -> Mw & Refl",
    "Mw & Refl",
    "Mw | Ml",
    "Ml & ~Mw",
]


@pytest.mark.parametrize("text", [*CLOSED, *OTHERS])
def test_conformance(text: str) -> None:
    """Every property of the suite, or an exception that the formula implies."""
    check_method(rather.get_method(f"logic:{text}"))


def test_exceptions_follow_from_the_formula() -> None:
    def exceptions(text: str) -> set[str]:
        return set(rather.get_method(f"logic:{text}").exceptions)

    assert exceptions("CPO") == exceptions("CPO; ref") == set()
    assert exceptions("cCPO") == {"margin_only"}
    assert exceptions("cCPO; ref") == {"margin_only", "shift"}
    assert exceptions("Ml & ~Mw") == {"margin_only", "direction"}


@pytest.mark.parametrize("text", ["cCPO", "unCPO; ref", "CEUNL"])
@pytest.mark.parametrize(
    "options", [{"link": "square"}, {"link": "hinge", "beta": 0.5}, {"labels.flip_rate": 0.2, "sft": 0.1}]
)
def test_gradient_of_every_link(text: str, options: dict[str, Any]) -> None:
    objective = rather.get_method(f"logic:{text}").objective(**options)
    policy, reference, layout = make_case([2, 3, 2], seed=4).batch()
    elements = policy.elements.clone().requires_grad_()

    def loss(elements: torch.Tensor) -> torch.Tensor:
        scores = type(policy)(elements, policy.response)
        return objective(scores, reference if objective.needs_reference else None, layout).loss(layout.counts())

    assert torch.autograd.gradcheck(loss, (elements,))


def test_names_are_spelled_in_one_way() -> None:
    names = ["logic:Ml->Mw;given = Ml|Mw", "logic:M_l → M_w; given=M_w ∨ M_l", "logic:Ml -> Mw; given=Mw | Ml"]
    assert {rather.get_method(name).name for name in names} == {"logic:Ml -> Mw; given=Mw | Ml"}
    assert rather.get_method("logic:ccpo ; ref").name == "logic:cCPO; ref"
    assert rather.get_method("logic: Mw").name == "logic:Mw"


def test_additions_go_on_formulas_too() -> None:
    method = rather.get_method("logic:cCPO+degree_spo")
    assert method.name == "logic:cCPO+degree_spo"
    assert {"link", "degree.gamma"} <= set(method.option_names())


def test_needs() -> None:
    assert rather.get_method("logic:cCPO").needs == {"pairs", "likelihood"}
    assert rather.get_method("logic:cCPO; ref").needs == {"pairs", "likelihood", "reference"}
    objective = rather.get_method("logic:cCPO").objective()
    assert isinstance(objective, Preference)
    assert not objective.needs_reference
    assert objective.needs_lengths


def test_a_name_and_its_formula_are_one_loss() -> None:
    policy, _, layout = make_case([2] * 8, seed=6).batch()
    values = [
        rather.get_method(f"logic:{text}").objective()(policy, None, layout).per_edge
        for text in ("bCPO", "Ml -> Mw; also=~Mw & ~Ml")
    ]
    assert torch.equal(*values)


def test_lists_are_pairs_of_the_winner_and_each_loser() -> None:
    policy, _, layout = make_case([4], seed=7, length=2).batch()
    outcome = rather.get_method("logic:cCPO").objective()(policy, None, layout)
    p = policy.elements.reshape(4, 2).mean(1).exp()
    expected = torch.nn.functional.softplus(-(p[0] / (p[1:] * (1 - p[0]))).log())
    torch.testing.assert_close(outcome.per_edge, expected)


def test_the_rows_are_no_state() -> None:
    assert not rather.get_method("logic:cCPO; ref").objective().state_dict()


def test_flipped_labels_exchange_the_counts() -> None:
    """Corrected flips leave the expected loss as it is on clean labels."""
    policy, _, layout = make_case([2] * 8, seed=8, length=1).batch()
    method = rather.get_method("logic:ORPO")
    clean = method.objective()(policy, None, layout).per_edge
    corrected = method.objective(**{"labels.flip_rate": 0.2})
    swapped = type(layout)(**{**vars(layout), "winner": layout.loser, "loser": layout.winner})
    kept, flipped = (corrected(policy, None, each).per_edge for each in (layout, swapped))
    torch.testing.assert_close(0.8 * kept + 0.2 * flipped, clean)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Mw | ~Mw", "no row of the truth table counts against"),
        ("Mw & ~Mw", "no row of the truth table counts for"),
        ("Mw; given=false", "no row of the truth table counts for"),
        ("Refw", "does not depend on the model"),
        ("Mw; given=Mw & Ml; also=Mw & Ml", "does not depend on the model"),
        ("Mw ->", "at position 6"),
        ("cPCO", "did you mean"),
    ],
)
def test_what_cannot_be_trained_is_refused(text: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        rather.get_method(f"logic:{text}")
    assert words in str(caught.value)


def test_unknown_options() -> None:
    with pytest.raises(UserError, match="did you mean 'link'"):
        rather.get_method("logic:cCPO").configure({"lnk": "hinge"})
    with pytest.raises(UserError, match="logistic"):
        rather.get_method("logic:cCPO").configure({"link": "exponential"})


def test_a_denoising_bound_is_refused() -> None:
    with pytest.raises(UserError, match="true log-probabilities"):
        check_policy(rather.get_method("logic:cCPO"), "points", frozenset())
