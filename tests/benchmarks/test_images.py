"""The benchmark of image pipelines, with a tiny one."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from benchmarks import images, run_images

pytest.importorskip("diffusers")

TINY = ["--size", "tiny", "--side", "32", "--steps", "1", "--repeats", "1", "--precision", "fp32", "--in-process"]
FILE = "benchmarks/images-tiny-32.json"


def test_both_compute_the_same_and_the_page_says_so(tmp_path: Path) -> None:
    assert images.main([*TINY, "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / FILE).read_text())
    assert set(found["results"]) == set(run_images.ALL)
    assert found["agreement"]["difference"] < 1e-4
    assert abs(found["agreement"]["plain"] - math.log(2)) > 1e-2  # not the same only because nothing was trained
    for name in ("rather", *run_images.PLAIN):
        (result,) = found["results"][name]
        first, second = result["steps"]
        assert first["loss"] == pytest.approx(math.log(2), abs=1e-5) and second["loss"] != first["loss"]
        assert {"reference", "forward", "backward", "optimizer"} <= set(second["phases"])
        assert 0 < sum(second["phases"].values()) <= second["wall"] * 1.05
    assert "vae" in second["phases"] and "vae" not in found["results"]["rather"][0]["steps"][1]["phases"]
    # The same adapters on both sides.
    assert len({found["results"][name][0]["parameters"]["trained"] for name in ("rather", *run_images.PLAIN)}) == 1
    page = (tmp_path / "benchmarks.md").read_text()
    assert "## Images" in page and "### Tiny, 32 x 32 pixels" in page and "Filling the cache costs" in page


def test_losses_that_differ_fail_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = run_images.PlainLoop.loss

    def doubled(self: run_images.PlainLoop, *args: object, **options: object) -> object:
        return 2 * honest(self, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(run_images.PlainLoop, "loss", doubled)
    assert images.main([*TINY, "--out", str(tmp_path)]) == 1
    failed = json.loads((tmp_path / FILE).read_text())["failed"]
    assert "differ" in failed and "log 2" in failed


def test_a_side_that_does_not_fit_is_a_users_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert images.main(["--side", "100", "--out", str(tmp_path)]) == 2
    assert "--side 100" in capsys.readouterr().err and not any(tmp_path.iterdir())
