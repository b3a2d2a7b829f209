"""A run folder in, one self-contained ``report.html`` out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from markupsafe import Markup

from rather.report import calibration, curves, findings, page, results, samples, tables, timesteps
from rather.report.chart import Chart, smooth, svg, table
from rather.report.numbers import duration, shown, when
from rather.report.run_folder import RunFolder, read_run

NAME = "report.html"
METHOD_KEYS = ("name", "title", "equation", "source", "unit", "reduction")


def build_report(run_folder: Path) -> Path:
    """Write ``run_folder/report.html`` from whatever the run has written so far.

    The page is one file: style, script, drawings and pictures are inside it, and its content security policy forbids
    everything else. An existing report is replaced in one step.

    Returns:
        The path of the report.

    Raises:
        UserError: ``run_folder`` is not a run folder.
    """
    run_folder = Path(run_folder)
    return page.write(run_folder / NAME, render(read_run(run_folder)))


def render(run: RunFolder) -> str:
    """The report as HTML."""
    found = results.rows(run.evaluation, run.model_kind)
    known, other = curves.charts(run.metrics, run.model_kind)
    shots = samples.collect(run)
    notices = findings.notices(run, found)
    data, reliability = tables.data(run), calibration.section(run)
    along = timesteps.section(run)
    has_after = any(row.after for row in found)
    results_title = "Before and after" if has_after else "Before training"
    sections = [
        ("notices", "Worth knowing", notices),
        ("results", results_title, found),
        ("calibration", "Calibration", reliability),
        ("timesteps", "By timestep", along),
        ("curves", "Curves", True),
        ("samples", "Sampled answers", shots.shown),
        ("data", "Data", data),
        ("method", "Method", True),
        ("record", "Record", True),
    ]
    return page.render(
        "report.html.j2",
        contents=[(anchor, name) for anchor, name, there in sections if there],
        model=run.model_name,
        method=dict.fromkeys(METHOD_KEYS) | run.method,
        status=run.status,
        byline=_byline(run),
        verdict=findings.verdict(run, found),
        notices=notices,
        results=found,
        results_title=results_title,
        has_after=has_after,
        count=shown(results.count(run.evaluation)) if results.count(run.evaluation) else "",
        evaluated_on=str(run.evaluation.get("data") or ""),
        calibration=reliability,
        timesteps=along and {"note": along.note, "charts": [_figure(chart) for chart in along.charts]},
        charts=[_figure(chart) for chart in known],
        smoothed=any(smooth(line) is not None for chart in known for line in chart.lines),
        other=[_figure(chart) for chart in other],
        samples=shots,
        pairs=bool(run.samples),
        data=data,
        options=tables.method(run),
        machine=tables.machine(run),
        speed=tables.speed(run),
        versions=tables.versions(run),
        command=_command(run),
        config=run.config_text.strip(),
        folder=run.path.name,
    )


def _figure(chart: Chart) -> dict[str, Any]:
    header, rows = table(chart)
    return {"chart": chart, "svg": Markup(svg(chart)), "header": header, "rows": rows}


def _byline(run: RunFolder) -> str:
    """Method name, steps, time and date in one line."""
    steps = [row["step"] for row in run.metrics if isinstance(row.get("step"), int)]
    parts = [str(run.method.get("name", "")), f"{max(steps):,} step{'' if max(steps) == 1 else 's'}" if steps else ""]
    seconds = run.run.get("seconds")
    if isinstance(seconds, int | float):
        parts.append(duration(float(seconds)))
    moment = run.run.get("finished") or run.run.get("started")
    parts += [str(run.run.get("device", "")), when(moment) if moment else ""]
    return " · ".join(part for part in parts if part)


def _command(run: RunFolder) -> str:
    command = run.run.get("command", "")
    return " ".join(map(str, command)) if isinstance(command, list) else str(command or "")
