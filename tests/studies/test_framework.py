"""The framework of the studies: seeds are kept and resumed, criteria judged, mistakes told, pages written."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pydantic import Field

from rather.cli import main
from rather.cli.study import study as command
from rather.errors import UserError
from rather.studies import pages, report, runner
from rather.studies.base import Criterion, Study, StudySettings, standard_rule
from rather.studies.registry import get, studies
from rather.studies.results import Finding, Results, Rows

ROOT = Path(__file__).parents[2]


class Settings(StudySettings):
    shift: float = Field(1.0, ge=0, description="what b is ahead by")


RAN: list[int] = []


def run(settings: Settings, seed: int) -> Rows:
    RAN.append(seed)
    base = 1 + seed / 10
    return {"a": {"x": base, "draw": float(torch.rand(()))}, "b | c": {"x": base + settings.shift, "y": math.inf}}


def ahead(results: Results) -> Finding:
    return results.difference("b | c", "a", "x").above(0.5)


STUDY = Study(
    slug="made-up",
    title="A study of <nothing>",
    claim="b is ahead of a",
    source="arXiv 0000.00000",
    settings=Settings,
    run=run,
    metrics={"x": "a number", "draw": "drawn by torch", "y": "not finite"},
    criteria=(
        Criterion("ahead", "b is ahead by more than 0.5", ahead),
        Criterion("behind", "b is behind", lambda r: r.difference("b | c", "a", "x").below(0.0), "refutes"),
    ),
    seeds=3,
)


@pytest.fixture(autouse=True)
def _forget() -> None:
    RAN.clear()


def run_it(folder: Path, **options: object) -> runner.Finished:
    settings = STUDY.configure({"shift": options.pop("shift", 1.0)})
    return runner.run_study(STUDY, folder, settings, show=False, **options)  # type: ignore[arg-type]


def test_finished_seeds_are_kept(tmp_path: Path) -> None:
    first = run_it(tmp_path, seeds=2)
    assert RAN == [0, 1]
    more = run_it(tmp_path)
    assert RAN == [0, 1, 2]
    assert more.results.rows[:2] == first.results.rows
    run_it(tmp_path, fresh=True)
    assert RAN == [0, 1, 2, 0, 1, 2]


def test_other_settings_run_again(tmp_path: Path) -> None:
    run_it(tmp_path)
    assert run_it(tmp_path, shift=2.0).results.mean("b | c", "x").mean == pytest.approx(3.1)
    assert RAN == [0, 1, 2, 0, 1, 2]


def test_a_seed_cut_short_is_run_again(tmp_path: Path) -> None:
    run_it(tmp_path)
    (tmp_path / "seeds" / "1.json").write_text('{"fingerprint": "')
    run_it(tmp_path)
    assert RAN == [0, 1, 2, 1]


def test_an_interrupted_study_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(settings: Settings, seed: int) -> Rows:
        if seed == 1:
            raise KeyboardInterrupt
        return run(settings, seed)

    with pytest.raises(KeyboardInterrupt):
        runner.run_study(_with_run(stop), tmp_path, Settings(), show=False)
    run_it(tmp_path)
    assert RAN == [0, 1, 2]


def _with_run(function: object) -> Study:
    return replace(STUDY, run=function)  # type: ignore[arg-type]


def test_torch_is_seeded_and_left_as_it_was(tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = float(torch.rand(()))
    torch.manual_seed(5)
    draws = run_it(tmp_path).results.values("a", "draw")
    assert float(torch.rand(())) == expected
    assert len(set(draws)) == 3
    torch.manual_seed(1)
    assert draws[1] == float(torch.rand(()))


def test_numbers_that_are_not_finite_survive_json(tmp_path: Path) -> None:
    run_it(tmp_path)
    again = run_it(tmp_path)
    assert again.results.values("b | c", "y") == [math.inf] * 3
    report.write(again, tmp_path)
    saved = json.loads((tmp_path / "study.json").read_text(), parse_constant=pytest.fail)
    assert saved["table"]["b | c"]["y"]["mean"] is None


def test_undeclared_metrics_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"undeclared metrics \['z'\]"):
        runner.run_study(_with_run(lambda settings, seed: {"a": {"z": 1.0}}), tmp_path, Settings(), show=False)
    assert not list((tmp_path / "seeds").iterdir())


@pytest.mark.parametrize(
    ("must", "refutes", "verdict"),
    [
        ([True, True], [False], "supported"),
        ([True, False], [False], "mixed"),
        ([False, False], [False], "not supported"),
        ([True, True], [False, True], "not supported"),
    ],
)
def test_rule(must: list[bool], refutes: list[bool], verdict: str) -> None:
    from rather.studies.base import Judged

    def judged(holds: bool, role: str) -> Judged:
        return Judged(Criterion("", "", ahead, role), Finding(holds, ""))  # type: ignore[arg-type]

    noted = [judged(False, "noted"), judged(True, "noted")]
    assert (
        standard_rule([judged(h, "must") for h in must] + [judged(h, "refutes") for h in refutes] + noted) == verdict
    )


def test_verdict_follows_the_numbers(tmp_path: Path) -> None:
    assert run_it(tmp_path).verdict == "supported"
    assert run_it(tmp_path, shift=0.2).verdict == "not supported"


def test_a_page_escapes_and_a_table_keeps_its_columns(tmp_path: Path) -> None:
    page = report.write(run_it(tmp_path), tmp_path).read_text()
    assert "A study of &lt;nothing&gt;" in page and "<nothing>" not in page
    assert page.count("data:image/png;base64,") == 2  # one for each theme
    widths = {
        line.replace("\\|", "").count("|") for line in (tmp_path / "table.md").read_text().splitlines() if "|" in line
    }
    assert widths == {5}
    assert "reduced" not in page
    assert "reduced settings" in report.write(run_it(tmp_path, seeds=2), tmp_path).read_text()


def test_overview_links_every_study(tmp_path: Path) -> None:
    done = run_it(tmp_path / "made-up")
    page = report.overview({"made-up": done}, tmp_path).read_text()
    assert 'href="made-up/study.html"' in page and "1 supported" in page
    assert "[made-up](made-up/table.md)" in (tmp_path / "index.md").read_text()


def test_documentation_takes_the_study_as_declared_only(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="as declared"):
        pages.write(run_it(tmp_path / "run", seeds=2), tmp_path / "docs")
    with pytest.raises(UserError, match="as declared"):
        command("rdpo", tiny=True, out=tmp_path / "tiny", docs=tmp_path / "docs")
    assert not (tmp_path / "docs").exists() and not (tmp_path / "tiny").exists(), "refused before anything is run"
    pages.write(run_it(tmp_path / "run"), tmp_path / "docs")
    index = (tmp_path / "docs" / "index.md").read_text()
    assert "| [made-up](made-up.md) | b is ahead of a | supported | arXiv 0000.00000 |" in index


def test_the_committed_index_is_that_of_the_committed_pages() -> None:
    folder = ROOT / "docs" / "studies"
    assert (folder / "index.md").read_text() == pages.index(folder)


def test_command_runs_a_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command("rdpo", seeds=1, tiny=True, out=tmp_path, sets=["newton-steps=3", "prompts=20"])
    out = capsys.readouterr().out
    assert "verdict:" in out and str(tmp_path / "study.html") in out
    saved = json.loads((tmp_path / "study.json").read_text())
    assert (saved["settings"]["newton_steps"], saved["settings"]["prompts"]) == (3, 20)
    assert saved["seeds"] == [0]


def test_all_writes_one_page_of_verdicts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    incomplete = replace(STUDY, slug="incomplete", requires=("no_such_package",))
    monkeypatch.setattr("rather.studies.registry.studies", lambda: {"made-up": STUDY, "incomplete": incomplete})
    command(everything=True, out=tmp_path)
    printed = capsys.readouterr()
    assert "left out: incomplete (needs no_such_package)" in printed.err
    assert str(tmp_path / "index.html") in printed.out
    assert (tmp_path / "made-up" / "study.html").is_file() and not (tmp_path / "incomplete").exists()


def test_a_run_leaves_the_number_of_threads(tmp_path: Path) -> None:
    before, seen = torch.get_num_threads(), []

    def threads(settings: Settings, seed: int) -> Rows:
        seen.append(torch.get_num_threads())
        return run(settings, seed)

    torch.set_num_threads(2)
    try:
        runner.run_study(_with_run(threads), tmp_path, Settings(), seeds=1, show=False)
        assert (seen, torch.get_num_threads()) == ([1], 2)
    finally:
        torch.set_num_threads(before)


def test_list_names_every_study(capsys: pytest.CaptureFixture[str]) -> None:
    command(listing=True)
    out = capsys.readouterr().out
    assert all(slug in out for slug in studies())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["study", "rpdo"], "did you mean 'rdpo'"),
        (["study", "base"], "no study 'base'"),
        (["study"], "give one study, --all or --list"),
        (["study", "rdpo", "--set", "prompt=3"], "did you mean 'prompts'"),
        (["study", "rdpo", "--set", "prompts=-3"], "--set prompts"),
        (["study", "rdpo", "--set", "prompts"], "not NAME=VALUE"),
        (["study", "rdpo", "--set", "prompts=[3"], "cannot be read"),
        (["study", "--all", "--set", "prompts=3"], "--set belongs to one study"),
        (["study", "rdpo", "--out", "/dev/null/x"], "cannot be written"),
    ],
)
def test_mistakes_are_told(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["rather", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main.main()
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_missing_packages_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no_such_package"):
        runner.run_study(replace(STUDY, requires=("no_such_package",)), tmp_path, Settings(), show=False)


def test_underscores_will_do() -> None:
    assert get("RDPO") is studies()["rdpo"]
