"""Held-out numbers of a denoising model by timestep, as the report and the model card show them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rather.report.build import build_report
from rather.report.card import model_card
from rather.report.run_folder import read_run
from rather.report.timesteps import section

MakeRun = Callable[..., Path]

BINS: list[dict[str, Any]] = [
    {
        "from": start,
        "to": start + 100,
        "n": 10,
        "error/chosen": 0.9 - start / 2000,
        "error/rejected": 0.8 - start / 2000,
        "reference/chosen": 1.0 - start / 2000,
        "reference/rejected": 0.75 - start / 2000,
        "margin": 0.25,
        "accuracy": 0.7,
        "accuracy/interval": [0.4, 0.89],
    }
    for start in range(0, 1000, 100)
]


def with_bins(run: Path, side: str = "after", bins: Any = BINS) -> Path:
    path = run / "evaluation.json"
    evaluation = json.loads(path.read_text())
    evaluation.setdefault(side, {})["timesteps"] = {"steps": 1000, "bins": bins}
    path.write_text(json.dumps(evaluation))
    return run


def test_charts_and_tables(make_run: MakeRun) -> None:
    page = build_report(with_bins(make_run())).read_text()
    assert '<h2 id="timesteps">By timestep</h2>' in page and '<a href="#timesteps">' in page
    assert "After training, on 100 held-out pairs" in page
    section = page.partition('<h2 id="timesteps">')[2].partition('<h2 id="curves">')[0]
    assert section.count('<svg class="chart"') == 4
    assert section.count(">timestep</text>") == 4 and ">step</text>" not in section
    assert '<th scope="col" class="n">Timestep</th>' in section and "some timesteps" in section
    assert "chosen, policy: 0.9 at timestep 50, 0.45 at timestep 950" in section


def test_the_change_is_policy_minus_reference(make_run: MakeRun) -> None:
    found = section(read_run(with_bins(make_run())))
    assert found is not None
    (chart,) = [chart for chart in found.charts if chart.name == "timesteps-change"]
    chosen, rejected = (line.series.values for line in chart.lines)
    assert [round(float(value), 9) for value in chosen] == [-0.1] * 10
    assert [round(float(value), 9) for value in rejected] == [0.05] * 10


def test_the_card_has_the_table(make_run: MakeRun) -> None:
    card = model_card(with_bins(make_run()))
    header = next(line for line in card.splitlines() if line.startswith("| Timesteps"))
    row = next(line for line in card.splitlines() if line.startswith("| 900 to 999"))
    assert len(header.split("|")) == len(row.split("|")) == 10
    assert "| 10 |" in row and "70.0% (40.0 to 89.0%)" in row
    assert len(re.findall(r"^\| \d+ to \d+ \|", card, re.MULTILINE)) == 10


def test_a_method_without_a_reference_or_edges(make_run: MakeRun) -> None:
    few = [{"from": 0, "to": 100, "error/chosen": 0.5}, {"from": 300, "to": 400, "error/chosen": 0.25}]
    run = with_bins(make_run(), bins=few)
    found = section(read_run(run))
    assert found is not None and [chart.name for chart in found.charts] == ["timesteps-error"]
    assert found.table == (
        ["Timesteps", "Pairs", "Error, chosen"],
        [["0 to 99", "–", "0.5"], ["300 to 399", "–", "0.25"]],
    )
    assert "By timestep" in build_report(run).read_text()


def test_before_training_is_told_as_such_and_other_runs_say_nothing(make_run: MakeRun) -> None:
    run = make_run()
    assert section(read_run(run)) is None
    assert "By timestep" not in build_report(run).read_text() and "By timestep" not in model_card(run)
    found = section(read_run(with_bins(run, "before")))
    assert found is not None and found.note.startswith("Before training")
