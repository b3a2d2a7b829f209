"""``rather methods`` and ``rather explain``."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rather.cli.methods import explain
from rather.cli.methods import methods as list_methods
from rather.errors import UserError
from rather.methods import gallery
from rather.methods.base import Limit, Method
from rather.methods.curve import behaviour, curve, shape, undrawn
from rather.methods.registry import get, methods
from rather.objectives.links import Logistic
from rather.objectives.preference import Preference
from rather.testing import cases, loss_of


def test_json_has_everything(capsys: pytest.CaptureFixture[str]) -> None:
    list_methods(as_json=True)
    cards = json.loads(capsys.readouterr().out)
    assert [card["name"] for card in cards] == list(methods())
    assert all(card["equation"] and card["source"] and card["text"] for card in cards)
    rdpo = next(card for card in cards if card["name"] == "rdpo")
    assert rdpo["aliases"] == ["robust"]
    assert rdpo["reference"] is True
    assert {option["name"]: option["default"] for option in rdpo["options"]}["labels.smoothing"] == 0.0
    assert rdpo["passes"] == "1 + 1, cached: 1"
    assert rdpo["limits"] == ["dpo with labels.flip_rate=0.2 when flip_rate=0.2"]
    assert next(card for card in cards if card["name"] == "simpo")["passes"] == "1"


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


def test_explain_tells_the_logic(capsys: pytest.CaptureFixture[str]) -> None:
    explain("simpo")
    assert re.search(r"formula: .*Mw", capsys.readouterr().out)
    explain("kto")
    assert "in logic" not in capsys.readouterr().out  # no function of one ratio


LIMITS = [(method, one) for method in methods().values() for one in method.limits]


@pytest.mark.parametrize(("method", "one"), LIMITS, ids=lambda value: getattr(value, "name", None) or value.method)
def test_a_limit_is_the_other_method(method: Method, one: Limit) -> None:
    this, other = method.objective(**one.under), get(one.method).objective(**one.options)
    for case in cases(method):
        torch.testing.assert_close(loss_of(this, case.batch()), loss_of(other, case.batch()), rtol=1e-12, atol=1e-12)


def test_the_committed_gallery_is_that_of_the_methods() -> None:
    committed = (Path(__file__).parents[2] / "docs" / "methods.md").read_text(encoding="utf-8")
    assert committed == gallery.page(), "write it anew: make gallery"


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
    assert not list(tmp_path.iterdir())


def test_curve_of_dpo() -> None:
    low, zero, high = curve(get("dpo"), [-500.0, 0.0, 500.0])
    assert (low.loss, low.chosen, low.rejected) == pytest.approx((500.0, 1.0, 1.0))
    assert (zero.chosen, zero.rejected) == pytest.approx((0.5, 0.5))
    assert high.push == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        (
            "dpo",
            {},
            ["a constant push of 1", "no push", "falls as the margin grows", "z = -5, 0, 5: 0.9933, 0.5, 0.006693"],
        ),
        ("rdpo", {"flip_rate": 0.25}, ["a constant push of 1.5", "a constant push of 0.5"]),
        (
            "cdpo",
            {"smoothing": 0.25},
            ["a constant push of 0.75", "a constant push of -0.25", "near z = 1.1: beyond, pulled back"],
        ),
        ("ipo", {}, ["faster than linear for wrongly", "a push back that grows", "near z = 0.5: beyond, pulled back"]),
        ("poly_dpo", {"alpha": -1.25}, ["near z = 1.39: beyond, pulled back"]),
        ("exo_pair", {}, ["wrongly ordered pairs (z to -inf): no push", "saturating for wrongly ordered pairs"]),
        ("hinge", {}, ["linear for wrongly ordered pairs, saturating for well", "z = -5, 0, 5: 1, 1, 0"]),
    ],
)
def test_behaviour_in_words(name: str, options: dict[str, float], words: list[str]) -> None:
    text = "\n".join(behaviour(get(name), options))
    for phrase in words:
        assert phrase in text, text


def test_shapes() -> None:
    assert shape(get("dpo")).monotone
    assert shape(get("rdpo")).monotone  # the push never ends, and never turns
    assert not shape(get("cdpo")).monotone
    ipo = shape(get("ipo"))
    assert (ipo.left.kind, ipo.right.kind, ipo.monotone) == ("growing", "growing", False)
    assert [push.push for push in shape(get("sft")).near] == pytest.approx([0.5, 0.5, 0.5])


class Watching(Preference):
    wants = frozenset({"entropy"})


def test_a_method_of_more_than_scores_has_no_curve(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert undrawn(get("dpo")) is None
    needs: frozenset[Any] = frozenset({"pairs", "reference", "stored noise"})
    assert undrawn(replace(get("dpo"), needs=needs)) == "it needs stored noise"
    watching = replace(get("dpo"), build=lambda options: Watching(beta=0.1, link=Logistic()))
    monkeypatch.setattr("rather.methods.registry.get", lambda name: watching)
    explain("watching")
    assert "no curve of a single pair: it looks at the model's entropy" in capsys.readouterr().out
    with pytest.raises(UserError, match="has no curve of a single pair"):
        explain("watching", plot=tmp_path / "x.png")
    assert not list(tmp_path.iterdir())
