"""``rather evaluate RUN``: what the model of a run learned, by held-out data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rather.report.results import Estimate


def evaluate(
    run: Annotated[Path, typer.Argument(help="run folder of rather train")],
    data: Annotated[str | None, typer.Option(help="other held-out data than the run's own")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="use the first so many comparisons")] = None,
    judge: Annotated[
        str | None,
        typer.Option(
            help="image runs: also score images that both models draw for held-out captions; clip:MODEL, "
            "pickscore:MODEL, hps:MODEL, aesthetic:MODEL, imagereward:FOLDER, checker:shapes"
        ),
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="how many captions the judge sees drawn")] = 16,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON instead of a table")] = False,
) -> None:
    """Score the trained model and the one before training on held-out data; update the run's report."""
    from rather.report.build import build_report
    from rather.report.rescore import merge, rescore
    from rather.report.run_folder import read_run
    from rather.training.record import write_json

    folder = read_run(run)
    found = rescore(folder, data=data, limit=limit, judge=judge, images=images, show=not as_json)
    evaluation = merge(folder.evaluation, found)
    write_json(run / "evaluation.json", evaluation)
    report = build_report(run)
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    _table(found, evaluation, folder.model_kind)
    typer.echo(f"report: {report}")


def _table(found: dict[str, Any], evaluation: dict[str, Any], kind: str) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from rather.report import results

    console = Console()
    pairs = results.count(evaluation) or 0
    title = f"{pairs:,} held-out pairs of {escape(str(found['data']))}; ranges are 95% intervals"
    wide = console.width >= 100
    table = Table("Measure", title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for name in ("Before", "After", "Change") if wide else ("Before", "After"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in results.rows({"before": found["before"], "after": found["after"]}, kind):
        cells = [_cell(row.before, row.share), _cell(row.after, row.share)]
        table.add_row(escape(row.label), *cells, *([row.change] if wide else []))
    console.print(table)


def _cell(value: Estimate | None, share: bool) -> str:
    if value is None:
        return "–"
    interval = value.interval(share).replace(" to ", "–").rstrip("%")
    return f"{value.text(share)} ({interval})" if interval else value.text(share)
