"""Declared meanings: the formula of a method, compiled, is the method."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

import rather
from rather.errors import UserError
from rather.logic import formula_of
from rather.logic.counting import rows_of
from rather.logic.meaning import MEANINGS
from rather.logic.structure import Structure
from rather.methods.registry import get, methods
from rather.objectives.counted import CountedRows
from rather.objectives.preference import Preference
from rather.testing import make_case

OWN = {names[0]: meaning for names, meaning in MEANINGS.items()}
COMPILED = [
    name
    for name, meaning in OWN.items()
    # rather.loss has no place for responses of a method's own making; the test of the counts covers these methods.
    if meaning.formula is not None and meaning.options is not None and "auxiliary" not in get(name).needs
]
MEANT = [name for name, meaning in OWN.items() if meaning.formula is not None]


def pairs(number: int = 40, seed: int = 0) -> dict[str, Any]:
    """Random log-probabilities of tokens, of policy and reference; probabilities from 0.05 to 0.95."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.randint(1, 6, (2, number), generator=generator)

    def tokens(side: int) -> list[torch.Tensor]:
        return [-0.05 - 2 * torch.rand(int(n), generator=generator, dtype=torch.float64) for n in sizes[side]]

    return {
        name: tokens(side) for name, side in (("chosen", 0), ("rejected", 1), ("ref_chosen", 0), ("ref_rejected", 1))
    }


def test_names_are_those_of_the_registry() -> None:
    table = methods()
    for names in MEANINGS:
        assert names[0] in table
        assert names[1:] == table[names[0]].aliases


@pytest.mark.parametrize("name", COMPILED)
def test_the_compiled_formula_is_the_method(name: str) -> None:
    """Loss of each pair, on random log-probabilities."""
    meaning = OWN[name]
    options = {"reduce": meaning.reduce, **(meaning.options or {})}
    ours = rather.loss(f"logic:{meaning.formula}", **pairs(), **options)
    theirs = rather.loss(name, **pairs())
    torch.testing.assert_close(ours.per_pair, theirs.per_pair, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", [name for name in MEANT if isinstance(get(name).objective(), Preference)])
def test_the_method_with_the_formulas_counts_for_its_ends_is_the_method(name: str) -> None:
    """For every f: the method's own link, labels and offset, over the counts of the formula."""
    structure = OWN[name].structure
    assert structure is not None
    own = get(name).objective()
    assert isinstance(own, Preference)
    assert own.reduce == OWN[name].reduce
    assert own.needs_reference == structure.needs_reference
    counted = copy.deepcopy(own)
    counted.transform = None
    propositions = 4 if structure.needs_reference else 2
    counted.matching = CountedRows(rows_of(structure.tick, propositions), rows_of(structure.cross, propositions))
    policy, reference, layout = make_case([2] * 20, seed=5).batch()
    if name in ("diffusion_dpo", "inpo"):
        own.beta = counted.beta = 1.0  # at 5000 the loss is the margin, and the last digits of both differ by it
    one, other = (objective(policy, reference, layout) for objective in (own, counted))
    torch.testing.assert_close(other.per_edge, one.per_edge, rtol=1e-9, atol=1e-9)


def test_cross_entropy_is_supervised_fine_tuning() -> None:
    """In total, too: with sums, -log p of the winners."""
    ours = rather.loss("logic:CE", **pairs(), reduce="sum")
    theirs = rather.loss("sft", **pairs(), per="sums")
    torch.testing.assert_close(ours.loss, theirs.loss, rtol=1e-9, atol=1e-9)


def test_an_sft_term_is_of_the_same_probability() -> None:
    data = pairs()
    for reduce in ("mean", "sum"):
        plain = rather.loss("logic:ORPO", **data, reduce=reduce).loss
        added = rather.loss("logic:ORPO", **data, reduce=reduce, sft=0.3).loss - plain
        ends = [row.mean() if reduce == "mean" else row.sum() for row in data["chosen"]]
        torch.testing.assert_close(added, -0.3 * torch.stack(ends).mean(), rtol=1e-9, atol=1e-12)


def test_orpo_with_its_own_term() -> None:
    """lambda times the log odds ratio plus NLL is lambda times (compiled loss + NLL / lambda)."""
    data = pairs()
    compiled = rather.loss("logic:ORPO", **data, sft=1 / 0.25).loss
    torch.testing.assert_close(
        0.25 * compiled, rather.loss("orpo", **data, odds_weight=0.25).loss, rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("name", list(methods()))
def test_every_method_has_a_meaning_or_a_reason(name: str) -> None:
    meaning = formula_of(name)
    told = meaning.describe()
    if meaning.structure is None:
        assert told == f"none: {meaning.note}"
        assert len(meaning.note.split()) > 4
    else:
        assert isinstance(meaning.structure, Structure)
        assert meaning.structure.ratio() in told
        assert "place: " in told


def test_aliases_and_formulas() -> None:
    assert formula_of("slic") is formula_of("hinge")
    meaning = formula_of("logic:Ml->Mw; given=Ml|Mw")
    assert meaning.formula == "Ml -> Mw; given=Mw | Ml"
    assert "given: Mw | Ml" in meaning.describe()
    assert "place: cCPO; just stricter: CE, CPO, ORPO; just looser: unCPO" in meaning.describe()
    added = formula_of("cpo+degree_spo")
    assert added.formula == "CPO"
    assert "note: beside it, an SFT term on the winner; beside it, the term of degree_spo" in added.describe()
    assert formula_of("kto+degree_spo").formula is None
    assert "no meaning is declared for 'mine'" in formula_of("mine").describe()
    with pytest.raises(UserError, match="at position 6"):
        formula_of("logic:Ml ->")


def test_a_surrogate_says_so() -> None:
    assert "surrogate" in formula_of("diffusion_dpo").describe()
