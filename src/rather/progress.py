"""How far long work has come, on standard error: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

_LINE_SECONDS = 30.0  # between lines in a log


@cache
def standard_error() -> Console:
    """One for all bars: those of several consoles would write over each other."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


@contextmanager
def progress_bar(
    what: str, total: int | None, *, show: bool = True, console: Console | None = None
) -> Iterator[Callable[[int], None]]:
    """Yields what is called with the count of the things that were done since. A bar goes away at the end; several can be
    shown at once, one within another.

    Args:
        total: of the things; none where it is not known.
    """
    from rich import progress
    from rich.markup import escape

    console = console or standard_error()
    if not show:
        yield lambda count: None
        return
    if not console.is_terminal:
        lines, reached = Lines(lambda text: console.print(escape(text), soft_wrap=True), what, total), 0

        def advance(count: int) -> None:
            nonlocal reached
            reached += count
            lines.reach(reached)

        yield advance
        return
    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn() if total is None else progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(escape(what), total=total)
        yield lambda count: bar.advance(task, count)


class Lines:
    """Progress in a log: how far, and how long it will take, at most every half minute.

    Args:
        done: what was there at the start.
    """

    def __init__(self, say: Callable[[str], None], what: str, total: int | None, done: int = 0) -> None:
        self.say, self.what, self.total, self.first = say, what, total, done
        self.start = self.last = time.monotonic()

    def reach(self, done: int, text: str = "") -> None:
        now = time.monotonic()
        if now - self.last < _LINE_SECONDS:
            return
        self.last = now
        if self.total is None:
            told = [f"{self.what} {done:,}"]
        else:
            left = (now - self.start) / max(1, done - self.first) * (self.total - done) / 60
            told = [f"{self.what} {done}/{self.total}", f"{left:.0f} min left"]
        self.say("  ".join(filter(None, (*told, text))))
