"""Every study, with tiny settings: it runs, writes what it should, judges every criterion, and repeats itself."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from rather.studies import report, runner
from rather.studies.base import Study
from rather.studies.registry import studies

VERDICTS = {"supported", "mixed", "not supported"}


@pytest.mark.parametrize("study", studies().values(), ids=lambda study: study.slug)
def test_a_study_runs_and_repeats_itself(study: Study, tmp_path: Path) -> None:
    if any(find_spec(name) is None for name in study.requires):
        pytest.skip(f"needs {', '.join(study.requires)}")
    settings = study.configure({}, tiny=True)
    done = runner.run_study(study, tmp_path, settings, seeds=2, show=False)
    page = report.write(done, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"seeds", "study.json", "table.md", "plot.png", "study.html"}
    saved = json.loads((tmp_path / "study.json").read_text(), parse_constant=pytest.fail)
    assert saved["verdict"] == done.verdict and done.verdict in VERDICTS
    assert [one["name"] for one in saved["criteria"]] == [criterion.name for criterion in study.criteria]
    assert all(one["found"] and isinstance(one["holds"], bool) for one in saved["criteria"])
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert "http" not in page.read_text().replace("http-equiv", "").replace("http://www.w3.org", "")
    again = runner.run_study(study, tmp_path / "again", settings, seeds=1, show=False)
    assert again.results.rows[0] == done.results.rows[0]


@pytest.mark.parametrize("study", studies().values(), ids=lambda study: study.slug)
def test_a_study_is_declared_whole(study: Study) -> None:
    module = study.run.__module__.rpartition(".")[2]
    assert module == study.slug.replace("-", "_"), "the file has the study's name"
    assert study.source.startswith("arXiv ") and study.source.removeprefix("arXiv ")[:10] in study.text
    assert all(word in study.text.lower() for word in ("claim", "verdict")), "the docstring tells claim and verdict"
    assert all(field.description for field in study.settings.model_fields.values())
    assert any(criterion.role == "must" for criterion in study.criteria)
    assert any(criterion.role == "refutes" for criterion in study.criteria), (
        "a claim that nothing refutes says nothing"
    )
    assert study.seeds >= 3
    assert study.tiny, "no tiny settings"
