"""What a judge says of images by two models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rather.data.types import Comparison
from rather.errors import UserError
from rather.report import results
from rather.report.judged import captions_of, judged, keep, require_images
from rather.rewards.images import ImageJudge
from rather.stats import wilson


class Size(ImageJudge):
    name = "size"

    def score(self, prompt: str, responses: Sequence[bytes]) -> np.ndarray:
        return np.array([len(prompt) + len(response) for response in responses], float)


def test_means_wins_and_their_intervals() -> None:
    found = judged(Size(), ["a", "bb", "ccc"], [b"1", b"1", b"1"], [b"1", b"22", b""])
    assert found["before"]["judged/size"] == 3 and found["after"]["judged/size"] == 3
    # Scores 2, 3, 4: sd 1; Student's t with two degrees is 4.303.
    assert found["before"]["judged/size/interval"] == pytest.approx(
        [3 - 4.3027 / 3**0.5, 3 + 4.3027 / 3**0.5], abs=1e-3
    )
    assert found["after"]["wins/size"] == 0.5
    assert found["after"]["wins/size/interval"] == list(wilson(1.5, 3))
    assert "wins/size" not in found["before"]
    assert "judged/size/interval" not in judged(Size(), ["a"], [b"1"], [b"2"])["after"]


def test_the_rows_are_worded() -> None:
    found = results.rows(judged(Size(), ["a", "bb"], [b"1", b""], [b"11", b"333"]))
    assert [(row.label, row.share, row.better) for row in found] == [
        ("Score of drawn images, size", False, 1),
        ("Wins over before, size", True, 1),
    ]


def test_captions_are_the_first_different_ones() -> None:
    rows = [Comparison(str(i), prompt, ()) for i, prompt in enumerate("abac")]
    assert captions_of(rows, 2) == ["a", "b"] and captions_of(rows, 9) == ["a", "b", "c"]


def test_images_of_an_earlier_call_are_gone(tmp_path: Path) -> None:
    keep([b"1", b"2", b"3"], tmp_path / "images")
    keep([b"4"], tmp_path / "images")
    assert [path.read_bytes() for path in (tmp_path / "images").iterdir()] == [b"4"]


def test_models_that_draw_nothing_are_refused() -> None:
    class Text:
        kind = "language"

    policy: Any = Text()
    with pytest.raises(UserError, match="a language model draws no images"):
        require_images(policy, Size())
