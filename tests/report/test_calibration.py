"""The reliability diagram of a reward model."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

from rather.report.build import build_report
from rather.report.calibration import section, svg
from rather.report.card import model_card
from rather.report.run_folder import read_run

MakeRun = Callable[..., Path]
BINS = [{"n": 40, "confidence": 0.55, "right": 0.5}, {"n": 10, "confidence": 0.93, "right": 0.8}]


def with_bins(run: Path, side: str = "after") -> Path:
    path = run / "evaluation.json"
    evaluation = json.loads(path.read_text())
    evaluation.setdefault(side, {}).update(
        {"log_loss": 0.61, "calibration_error": 0.066, "calibration": {"bins": BINS}}
    )
    path.write_text(json.dumps(evaluation))
    return run


def test_a_run_that_measured_it_shows_it(make_run: MakeRun) -> None:
    page = build_report(with_bins(make_run())).read_text()
    assert '<h2 id="calibration">Calibration</h2>' in page
    assert '<a href="#calibration">' in page
    assert "After training, on 50 held-out pairs." in page and "error 0.066, log-loss 0.61" in page
    assert '<td class="n">80.0%</td>' in page
    assert "Calibration error" in page and "Log-loss of the order" in page


def test_other_runs_have_no_such_section(make_run: MakeRun) -> None:
    run = make_run()
    assert section(read_run(run)) is None
    assert 'id="calibration"' not in build_report(run).read_text()


def test_before_training_is_told_as_such(make_run: MakeRun) -> None:
    found = section(read_run(with_bins(make_run(), "before")))
    assert found is not None and found["note"].startswith("Before training")


def test_the_drawing_is_described_and_within_its_frame() -> None:
    drawing = svg(BINS)
    assert "55.0% sure, 50.0% right (40 pairs)" in drawing
    dots = [tuple(map(float, dot)) for dot in re.findall(r'<circle[^>]*cx="([\d.]+)" cy="([\d.]+)"', drawing)]
    assert len(dots) == 2
    assert all(64 <= x <= 468 and 10 <= y <= 256 for x, y in dots)
    assert dots[0][0] < dots[1][0] and dots[0][1] > dots[1][1]
    assert "NaN" not in svg([])


def test_rewards_of_a_reward_model_are_called_its_own(make_run: MakeRun) -> None:
    run = make_run()
    assert "Implicit reward" in build_report(run).read_text()
    record = json.loads((run / "run.json").read_text())
    record["model"]["kind"] = "reward"
    (run / "run.json").write_text(json.dumps(record))
    page = build_report(run).read_text()
    assert "mplicit reward" not in page and "log-ratio to the reference" not in page
    assert "Ranking accuracy" in page
    card = model_card(run)
    assert "rather.rewards.load" in card and "AutoModelForCausalLM" not in card and "mplicit reward" not in card
