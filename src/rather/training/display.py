"""What a run prints: to standard error, on the first process only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from rather.progress import Lines, progress_bar, standard_error


class Display:
    """A console, and progress bars on it.

    Args:
        show: False for other processes than the first, and for quiet runs.
    """

    def __init__(self, *, show: bool) -> None:
        self.show = show
        self.console = standard_error() if show else Console(stderr=True, quiet=True)

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

    def progress(self, what: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        """See ``rather.progress``."""
        return progress_bar(what, total, show=self.show, console=self.console)

    def steps(self, total: int, done: int) -> AbstractContextManager[Steps]:
        return Steps(self, total, done)


class Steps:
    """Progress of the optimizer steps, with the latest numbers."""

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


def shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
