"""What a run prints: to standard error, on the first process only.

A terminal gets progress bars; a log gets a line now and then.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

_LINE_SECONDS = 30.0  # between lines of progress in a log


class Display:
    """A console, and progress bars on it.

    Args:
        show: False for other processes than the first, and for quiet runs.
    """

    def __init__(self, *, show: bool) -> None:
        self.show = show
        self.console = Console(stderr=True, quiet=not show, highlight=False)

    def say(self, text: str, style: str | None = None) -> None:
        self.console.print(escape(text), style=style, soft_wrap=True)

    def warn(self, text: str) -> None:
        self.say(f"warning: {text}", "yellow")

    def settings(self, title: str, values: Mapping[str, Any]) -> None:
        """A two-column table."""
        table = Table(title=title, title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
        for name, value in values.items():
            table.add_row(escape(name), escape(shown(value)))
        self.console.print(table)

    def table(self, title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        table = Table(title=title, title_justify="left")
        for position, name in enumerate(header):
            table.add_column(name, justify="left" if position == 0 else "right")
        for row in rows:
            table.add_row(*map(escape, row))
        self.console.print(table)

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """A bar that goes away when it is done."""
        if not self.console.is_terminal:
            lines, reached = Lines(self.say, what, total), 0

            def advance(count: int) -> None:
                nonlocal reached
                reached += count
                lines.reach(reached)

            yield advance
            return
        columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self.console, transient=True, disable=not self.show) as bar:
            task = bar.add_task(what, total=total)
            yield lambda count: bar.advance(task, count)

    def steps(self, total: int, done: int) -> AbstractContextManager[Steps]:
        return Steps(self, total, done)


class Lines:
    """Progress in a log: how far, and how long it will take, at most every half minute.

    Args:
        done: what was there at the start.
    """

    def __init__(self, say: Callable[[str], None], what: str, total: int, done: int = 0) -> None:
        self.say, self.what, self.total, self.first = say, what, total, done
        self.start = self.last = time.monotonic()

    def reach(self, done: int, text: str = "") -> None:
        now = time.monotonic()
        if now - self.last < _LINE_SECONDS:
            return
        self.last = now
        left = (now - self.start) / max(1, done - self.first) * (self.total - done) / 60
        self.say("  ".join(filter(None, (f"{self.what} {done}/{self.total}", f"{left:.0f} min left", text))))


class Steps:
    """Progress of the optimizer steps, with the latest numbers; a bar stops while another one is shown."""

    def __init__(self, display: Display, total: int, done: int) -> None:
        self.display, self.total, self.done, self.text = display, total, done, ""
        self.bar: Progress | None = None
        self.lines = Lines(display.say, "training", total, done)

    def __enter__(self) -> Steps:
        if not self.display.console.is_terminal:
            return self
        columns = (
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}"),
        )
        self.bar = Progress(*columns, console=self.display.console, disable=not self.display.show, transient=True)
        self.task = self.bar.add_task("training", total=self.total, completed=self.done, text=self.text)
        self.bar.start()
        return self

    def __exit__(self, *raised: Any) -> None:
        if self.bar:
            self.bar.stop()

    def advance(self, row: Mapping[str, Any]) -> None:
        """Show a logged row."""
        names = (("loss", "loss"), ("margin", "rewards/margins"), ("acc", "rewards/accuracies"))
        parts = [f"{label} {row[key]:.3f}" for label, key in names if key in row]
        if row.get("seconds"):
            parts.append(f"{row['tokens'] / row['seconds']:,.0f} tok/s")
        text = "  ".join(parts)
        if self.bar:
            self.bar.update(self.task, completed=row["step"], text=text)
        else:
            self.lines.reach(row["step"], text)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Take the bar off the screen: one live display at a time."""
        if self.bar:
            self.bar.stop()
        try:
            yield
        finally:
            if self.bar:
                self.bar.start()


def shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
