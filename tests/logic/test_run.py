"""Runs under ``logic:FORMULA``: the name goes into the run's files and back."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml

from rather.cli import main as cli
from rather.errors import UserError
from rather.methods.registry import get
from rather.training import settings
from training.runs import metrics, record, short, weights

NAME = "logic:Ml -> Mw; given=Mw | Ml; ref"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("RATHER_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_the_configuration_loads_back(tmp_path: Path) -> None:
    given = {"model": "m", "data": "d", "method": "logic:Ml->Mw;given=Ml|Mw;ref", "link": "square", "beta": 0.5}
    config = settings.resolve(settings.from_keywords(given))
    assert config.method == NAME
    (tmp_path / "config.yaml").write_text(settings.dump(config))
    again = settings.resolve(settings.from_yaml(tmp_path / "config.yaml"))
    assert again == config
    assert get(again.method) is get(config.method)
    nested = {"model": "m", "data": "d", "method": {"name": NAME, "link": "hinge"}}
    (tmp_path / "nested.yaml").write_text(yaml.safe_dump(nested))
    assert settings.resolve(settings.from_yaml(tmp_path / "nested.yaml")).method_options["link"] == "hinge"


def test_a_mistake_in_the_formula_names_the_flag_or_the_line(tmp_path: Path) -> None:
    flags = settings.from_flags({"model": "m", "data": "d", "method": "logic:Ml -> "}, [])
    with pytest.raises(UserError, match="--method: expected a proposition"):
        settings.resolve(flags)
    (tmp_path / "run.yaml").write_text("model: m\ndata: d\nmethod: logic:Ml &\n")
    with pytest.raises(UserError, match=r"run\.yaml:3: expected a proposition"):
        settings.resolve(settings.from_yaml(tmp_path / "run.yaml"))


def test_a_run_learns_and_is_recorded(tmp_path: Path) -> None:
    result = short(tmp_path / "run", method="logic:cCPO", learning_rate=0.05, epochs=6)
    assert result.after["loss"] < result.before["loss"]
    assert result.after["accuracy"] > result.before["accuracy"]
    assert record(tmp_path / "run")["method"]["name"] == "logic:cCPO"


def test_resuming_gives_the_run_undisturbed(tmp_path: Path) -> None:
    short(tmp_path / "whole", method=NAME)
    with pytest.MonkeyPatch.context() as patch:
        from rather.training.fit import Fit

        due = Fit._save_due

        def stop(self: Fit) -> bool:
            if self.course.done == 3:
                self.save()
                raise KeyboardInterrupt
            return due(self)

        patch.setattr(Fit, "_save_due", stop)
        with pytest.raises(KeyboardInterrupt):
            short(tmp_path / "run", method=NAME)
    # Spelled in another way, it is the same method.
    short(tmp_path / "run", method="logic:M_l -> M_w; ref; given = M_w | M_l", resume=True)
    one, other = weights(tmp_path / "run"), weights(tmp_path / "whole")
    assert all(torch.equal(one[name], other[name]) for name in other)
    assert metrics(tmp_path / "run") == metrics(tmp_path / "whole")
    (tmp_path / "run" / "run.json").write_text(json.dumps({**record(tmp_path / "run"), "status": "running"}))
    with pytest.raises(UserError, match="method was"):
        short(tmp_path / "run", method="logic:cCPO", resume=True)


def test_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def call(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["rather", *arguments])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        told = capsys.readouterr()
        code = stopped.value.code
        return (code if isinstance(code, int) else 1), told.out + told.err

    data = ("--data", "world:shop?users=40&k=2", "--eval-data", "world:shop?split=eval&users=20&k=2")
    command = ("train", "--model", "toy:shop", *data, "--max-steps", "3", "--learning-rate", "0.01")
    code, told = call(*command, "--method", NAME, "--beta", "2", "--output", "run")
    assert code == 0, told
    saved = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert (saved["method"], saved["beta"], saved["link"]) == (NAME, 2.0, "logistic")
    code, told = call("train", "--config", "run/config.yaml", "--output", "again")
    assert code == 0, told
    one, other = (json.loads((tmp_path / name / "evaluation.json").read_text()) for name in ("run", "again"))
    assert one == other
    assert yaml.safe_load((tmp_path / "run" / "model" / "README.md").read_text().split("---")[1])["tags"][-1] == NAME
    code, told = call(*command, "--method", "logic:Ml -> Mv")
    assert code == 2
    assert "did you mean 'Mw'" in told
    assert "Traceback" not in told
    code, told = call("explain", NAME)
    assert code == 0, told
    assert "exp rho = p_w r_l / (p_l r_w (1 - p_w))" in told.replace("\n", " ")
