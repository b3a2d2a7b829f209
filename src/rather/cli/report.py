"""``rather report RUN``: rebuild the report of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    run: Annotated[Path, typer.Argument(help="run folder of rather train")],
    show: Annotated[bool, typer.Option("--open", help="open the report in the browser")] = False,
) -> None:
    """Rebuild RUN/report.html from what the run has written, and print its path."""
    from rather.report.build import build_report

    path = build_report(run)
    typer.echo(path)
    if show:
        typer.launch(str(path.resolve()))
