"""``rather methods`` and ``rather explain``."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from rather.cli.methods import explain
from rather.cli.methods import methods as list_methods
from rather.errors import UserError
from rather.methods.curve import behaviour, curve
from rather.methods.registry import get, methods


def test_json_has_everything(capsys: pytest.CaptureFixture[str]) -> None:
    list_methods(as_json=True)
    cards = json.loads(capsys.readouterr().out)
    assert [card["name"] for card in cards] == list(methods())
    assert all(card["equation"] and card["source"] and card["text"] for card in cards)
    rdpo = next(card for card in cards if card["name"] == "rdpo")
    assert rdpo["aliases"] == ["robust"]
    assert rdpo["reference"] is True
    assert {option["name"]: option["default"] for option in rdpo["options"]}["labels.smoothing"] == 0.0


def test_table_names_every_method(capsys: pytest.CaptureFixture[str]) -> None:
    list_methods()
    out = capsys.readouterr().out
    assert all(name in out for name in methods())
    assert "[(1-eps) l(z) - eps l(-z)]" in out  # brackets are not markup


@pytest.mark.parametrize("name", list(methods()))
def test_explain(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    explain(name)
    out = capsys.readouterr().out
    assert get(name).equation in out
    assert all(option in out for option in get(name).option_names())
    assert not re.search(r"\bnan\b|\binf\b(?!\))", out)


def test_a_picture_is_written_whole(tmp_path: Path) -> None:
    picture = tmp_path / "deep" / "poly.png"
    explain("poly_dpo", plot=picture, option=["alpha=-2"])
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in picture.parent.iterdir()] == ["poly.png"]


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'alpha'"):
        explain("poly_dpo", option=["alhpa=3"])
    with pytest.raises(UserError, match="not NAME=VALUE"):
        explain("poly_dpo", option=["alpha"])
    with pytest.raises(UserError, match=r"no picture format '\.bmp2'"):
        explain("dpo", plot=tmp_path / "x.bmp2")


def test_curve_of_dpo() -> None:
    low, zero, high = curve(get("dpo"), [-500.0, 0.0, 500.0])
    assert (low.loss, low.chosen, low.rejected) == pytest.approx((500.0, 1.0, 1.0))
    assert (zero.chosen, zero.rejected) == pytest.approx((0.5, 0.5))
    assert high.push == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("dpo", {}, ["a constant push of 1", "no push"]),
        ("rdpo", {"flip_rate": 0.25}, ["a constant push of 1.5", "a constant push of 0.5"]),
        (
            "cdpo",
            {"smoothing": 0.25},
            ["a constant push of 0.75", "a constant push of -0.25", "near z = 1.1: beyond, pulled back"],
        ),
        ("ipo", {}, ["a push outward that grows", "a push back that grows", "near z = 0.5: beyond, pulled back"]),
        ("poly_dpo", {"alpha": -1.25}, ["near z = 1.39: beyond, pulled back"]),
        ("exo_pair", {}, ["wrongly ordered pairs (z to -inf): no push"]),
    ],
)
def test_behaviour_in_words(name: str, options: dict[str, float], words: list[str]) -> None:
    text = "\n".join(behaviour(get(name), options))
    for phrase in words:
        assert phrase in text, text
