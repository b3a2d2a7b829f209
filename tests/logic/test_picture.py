"""The picture of the lattice."""

from __future__ import annotations

from pathlib import Path

import pytest

from rather.errors import UserError
from rather.logic import draw
from rather.logic.lattice import hasse_edges, level
from rather.logic.names import named
from rather.logic.picture import FILLS, LEVELS, positions
from rather.logic.printing import text_of


def test_every_loss_has_a_place_by_its_level() -> None:
    points = positions()
    assert set(points) == set(named())
    assert len(set(points.values())) == 16
    for height, names in enumerate(LEVELS):
        assert all(level(named()[name]) == height for name in names)
    assert all(points[one][1] < points[other][1] for one, other in hasse_edges())
    assert {text_of(structure.core) for structure in named().values()} == set(FILLS)


def test_exchanging_the_other_rows_is_a_reflection() -> None:
    points = positions()
    for name, structure in named().items():
        marks = structure.marks()
        turned = {**marks, "TT": marks["FF"], "FF": marks["TT"]}
        other = next(n for n, s in named().items() if s.marks() == turned)
        assert other == name or points[other] == (-points[name][0], points[name][1])


@pytest.mark.parametrize("marked", [None, "dpo", "cCPO; ref", "Mw | Ml", "Ml & ~Mw"])
def test_a_formula_is_marked(marked: str | None, tmp_path: Path) -> None:
    draw(tmp_path / "deep" / "lattice.svg", marked)
    text = (tmp_path / "deep" / "lattice.svg").read_text()
    assert all(f"<!-- {name} -->" in text for name in named())
    assert ("marked:" in text) == (marked is not None)
    assert text.count("#b3261e") == (0 if marked is None else 2 if marked == "Mw | Ml" else 1)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["lattice.svg"]


def test_png(tmp_path: Path) -> None:
    draw(tmp_path / "lattice.png", "sft")
    assert (tmp_path / "lattice.png").read_bytes().startswith(b"\x89PNG")


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no picture format '\.bmp2'"):
        draw(tmp_path / "lattice.bmp2")
    with pytest.raises(UserError, match="no meaning in logic"):
        draw(tmp_path / "lattice.png", "kto")
    assert not list(tmp_path.iterdir())
