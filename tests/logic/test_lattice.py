"""The order of losses: pairs, edges, numbers that obey it, and where a formula stands."""

# ruff: noqa: E741 - the letters of the paper
from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from logic.spec import CLOSED, EDGES, quick
from rather.errors import UserError
from rather.logic import Structure, compare, place, read, write
from rather.logic.formulas import ALL, ROWS, symbols_of
from rather.logic.lattice import hasse_edges, level, stricter_pairs
from rather.logic.names import losses_over, name_of, named, named_with_reference
from rather.logic.notation import spelled

TABLES = st.integers(1, ALL)


def over_two(bits: int) -> int:
    """A table over (Mw, Ml) alone as one over all propositions."""
    return sum(1 << row for row in range(ROWS) if bits >> (row & 3) & 1)


def test_pairs_and_edges() -> None:
    assert len(stricter_pairs()) == 65
    assert hasse_edges() == {(one, other) for one, others in EDGES.items() for other in others.split()}
    assert len(hasse_edges()) == 32
    assert [sum(level(s) == n for s in named().values()) for n in range(5)] == [1, 4, 6, 4, 1]
    assert all(level(named()[b]) == level(named()[a]) + 1 for a, b in hasse_edges())


def test_the_order_is_that_of_the_numbers() -> None:
    """On 20 000 random points rho keeps the order of every pair, and every other pair is ordered both ways."""
    generator = torch.Generator().manual_seed(0)
    p = torch.rand(2, 20_000, generator=generator, dtype=torch.float64).clamp(1e-6, 1 - 1e-6)
    rho = {name: structure.rho(*p.log()) for name, structure in named().items()}
    for a, b in itertools.permutations(named(), 2):
        if (a, b) in stricter_pairs():
            assert (rho[a] <= rho[b] + 1e-9).all(), (a, b)
        elif (b, a) not in stricter_pairs():
            assert (rho[a] < rho[b] - 1e-6).any(), (a, b)


def test_the_closed_forms_obey_the_order() -> None:
    generator = torch.Generator().manual_seed(1)
    w, l = torch.rand(2, 5000, generator=generator, dtype=torch.float64).clamp(1e-6, 1 - 1e-6)
    ratio = {name: top / bottom for name, (top, bottom) in ((n, form(w, l)) for n, form in CLOSED.items())}
    assert all((ratio[a] <= ratio[b] * (1 + 1e-9)).all() for a, b in stricter_pairs())


def test_references_keep_the_order() -> None:
    family = named_with_reference()
    found = {(a, b) for a in family for b in family if family[a].stricter_than(family[b])}
    assert found == stricter_pairs()


@quick
@given(TABLES, TABLES, TABLES, TABLES, st.lists(st.floats(-6, -0.01), min_size=4, max_size=4))
def test_a_stricter_structure_has_the_smaller_rho(t: int, x: int, u: int, y: int, logps: list[float]) -> None:
    """Any structure, and one made looser."""
    p = torch.tensor(logps, dtype=torch.float64)
    one, other = Structure.of_tables(t & u or t, x | y), Structure.of_tables(t | u, x & y or x)
    assert one.same_as(other) or one.stricter_than(other)
    assert one.rho(*p) <= other.rho(*p) + 1e-9


def test_number_of_losses() -> None:
    """Counted by making every pair of tables over two propositions, and by the formula for four."""
    made = {Structure.of_tables(over_two(t), over_two(x)) for t in range(16) for x in range(16)}
    assert len({(s.tick, s.cross) for s in made}) == losses_over(2) == 256
    assert losses_over(4) == 4_294_967_296


@pytest.mark.parametrize("name", list(CLOSED))
def test_names(name: str) -> None:
    assert name_of(read(name.lower())) == (name, False)
    assert name_of(read(f"{name};ref")) == (name, True)
    assert write(read(name)) == name
    assert write(read(f"{name}; ref")) == f"{name}; ref"
    found = place(name)
    assert found.name == name
    assert set(found.looser) == set(EDGES.get(name, "").split())
    assert set(found.stricter) == {a for a, b in EDGES.items() if name in b.split()}


@quick
@given(TABLES, TABLES)
def test_what_is_written_reads_as_the_same_structure(tick: int, cross: int) -> None:
    structure = Structure.of_tables(tick, cross)
    text = write(structure)
    assert read(text).same_as(structure)
    assert spelled(text).text == text


def test_place_of_a_formula_without_a_name() -> None:
    """``Mw | Ml`` counts the row of the loser alone for the formula, where all sixteen count it against."""
    found = place("Mw | Ml")
    assert (found.name, found.reference) == (None, False)
    assert (found.stricter, found.looser) == (("CE",), ())
    assert "none of the sixteen" in found.describe()
    lost = place("Ml & ~Mw")
    assert (lost.stricter, lost.looser) == ((), ())
    assert "comparable with none" in lost.describe()


def test_place_takes_methods_and_reference_versions() -> None:
    assert place("dpo").name == place("logic:CPO; ref").name == "CPO"
    assert place("dpo").reference
    assert place("simpo").name == "CPO"
    assert not place("simpo").reference
    assert place("Mw & Refl").looser == ("CE",)
    with pytest.raises(UserError, match="no meaning in logic"):
        place("kto")


def test_compare() -> None:
    assert compare("dpo", "ipo").relation == "equivalent"
    assert compare("orpo", "cCPO").relation == "stricter"
    assert compare("cCPO", "orpo").relation == "looser"
    assert compare("cpo", "orpo").relation == "incomparable"
    assert compare("cpo", "dpo").relation == "incomparable"
    found = compare("cCPO", "CPO")
    assert found.rows == {"Mw Ml": ("✓", "✓×")}
    assert "Mw Ml: ✓ against ✓×" in found.describe()


@quick
@given(TABLES, TABLES, TABLES, TABLES)
def test_compare_is_antisymmetric(t: int, x: int, u: int, y: int) -> None:
    one, other = Structure.of_tables(t, x), Structure.of_tables(u, y)
    mirrored = {"stricter": "looser", "looser": "stricter"}
    there, back = compare(one, other), compare(other, one)
    assert back.relation == mirrored.get(there.relation, there.relation)
    assert (there.relation == "equivalent") == (not there.rows)


@quick
@given(TABLES, TABLES)
def test_a_reference_can_be_taken_away_again(tick: int, cross: int) -> None:
    base = Structure.of_tables(over_two(tick & 15 or 1), over_two(cross & 15 or 1))
    back = base.with_reference().without_reference()
    assert back is not None
    assert back.same_as(base)
    assert base.without_reference() is None


def test_a_formula_of_its_own_over_the_reference_is_no_reference_version() -> None:
    assert read("Ml & Refw -> Mw; given=Mw ^ Ml").without_reference() is None
    assert symbols_of(read("Mw & Refl").tick) == symbols_of(read("Mw & Refl").cross)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cCPO; given=Mw", "has its own 'given'"),
        ("Mw; giben=Ml", "did you mean 'given'"),
        ("Mw; given", "'given' has no formula"),
        ("Mw; given=", "at position 1"),
        ("Mw; given=Ml &", "at position 5"),
        ("Mw; ref=1", "'ref' has no value"),
        ("Mw; ref; ref", "given twice"),
        ("Refw & Mw; ref", "has a reference already"),
        ("cCPPO", "did you mean"),
        ("", "at position 1"),
    ],
)
def test_mistakes(text: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        read(text)
    assert words in str(caught.value)


def test_marks_are_of_structures_without_reference() -> None:
    marks: dict[str, Any] = read("CPO").marks()
    assert marks == {"TT": "✓×", "TF": "✓", "FT": "×", "FF": "-"}
    with pytest.raises(ValueError, match="reference"):
        read("CPO; ref").marks()
    with pytest.raises(ValueError, match="already"):
        read("CPO; ref").with_reference()
