"""Bars on a terminal, lines in a log."""

from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from rather.progress import progress_bar


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the clock says, in seconds."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def log() -> Console:
    return Console(file=io.StringIO(), width=200)


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_log_gets_a_line_at_most_every_half_minute(clock: list[float]) -> None:
    console = log()
    with progress_bar("reading [a]", 10, console=console) as advance:
        for _ in range(8):
            clock[0] += 20
            advance(1)
    # After 40 seconds 2 of 10 are done, so 8 take 160 seconds more; and so on.
    assert written(console).splitlines() == [
        f"reading [a] {n}/10  {(10 - n) * 20 / 60:.0f} min left" for n in (2, 4, 6, 8)
    ]


def test_where_the_end_is_not_known_it_is_not_told(clock: list[float]) -> None:
    console = log()
    with progress_bar("reading", None, console=console) as advance:
        clock[0] += 31
        advance(1500)
    assert written(console) == "reading 1,500\n"


def test_nothing_is_shown_where_nothing_was_asked_for(clock: list[float]) -> None:
    console = log()
    with progress_bar("reading", 10, show=False, console=console) as advance:
        clock[0] += 100
        advance(1)
    assert written(console) == ""


def test_bars_can_be_shown_within_one_another() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    with progress_bar("seeds [x]", 2, console=console) as outer:
        with progress_bar("images", None, console=console) as inner:
            inner(3)
            time.sleep(0.5)  # bars are drawn ten times a second
        outer(1)
    shown = written(console)
    assert "seeds [x]" in shown and "images" in shown and "3/?" in shown and "1/2" in shown
