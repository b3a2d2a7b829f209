"""The command line, called in this process."""

from __future__ import annotations

import sys

import pytest

from command import Call
from rather.cli import main as cli


@pytest.fixture
def rather(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Call the command line in this process: (exit code, stdout, stderr)."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["rather", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        told = capsys.readouterr()
        code = stopped.value.code
        return (code if isinstance(code, int) else 1), told.out, told.err

    return call
