"""What a study leaves behind: ``study.json``, ``table.md``, ``plot.png`` and one self-contained ``study.html``."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rather.report import page, theme
from rather.report.markdown import table
from rather.report.numbers import duration, shown
from rather.studies.base import Study, StudySettings
from rather.studies.figure import picture
from rather.studies.results import Estimate, Results
from rather.studies.runner import Finished
from rather.training.metrics import finite
from rather.training.record import command, now, versions, write_json, write_text

TONES = {"supported": "good", "mixed": "mixed", "not supported": "poor"}
PARTS = {"must": "must be seen", "refutes": "refutes the claim", "noted": "noted"}


def write(done: Finished, folder: Path) -> Path:
    """Write everything into ``folder``, each file in one step; the path of the page."""
    write_json(folder / "study.json", as_json(done))
    write_text(folder / "table.md", markdown(done))
    write_bytes(folder / "plot.png", picture(done.study, done.results))
    return page.write(folder / "study.html", html(done))


def write_bytes(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(content)
    os.replace(partial, path)


def as_json(done: Finished) -> dict[str, Any]:
    """Declaration, criteria with findings, verdict, estimates, every seed's numbers, and how they were made."""
    study, results = done.study, done.results
    return {
        "slug": study.slug,
        "title": study.title,
        "source": study.source,
        "claim": study.claim,
        "verdict": done.verdict,
        "rule": rule_text(study),
        "criteria": [
            {"name": one.criterion.name, "says": one.criterion.says, "role": one.criterion.role}
            | {"holds": one.finding.holds, "found": one.finding.found}
            for one in done.judged
        ],
        "settings": done.settings.model_dump(mode="json"),
        "reduced": reduced(done),
        "seeds": list(results.seeds),
        "metrics": dict(study.metrics),
        "table": {cell: _estimates(results, cell) for cell in results.cells},
        "rows": [
            {c: {m: finite(v) for m, v in values.items()} for c, values in rows.items()} for rows in results.rows
        ],
        "seconds": round(done.seconds, 3),
        "command": command(),
        "written": now(),
        "versions": versions(),
    }


def _estimates(results: Results, cell: str) -> dict[str, dict[str, Any]]:
    found = {metric: results.mean(cell, metric) for metric in results.metrics if results.has(cell, metric)}
    return {
        metric: {name: finite(getattr(one, name)) for name in ("mean", "error", "low", "high", "seeds")}
        for metric, one in found.items()
    }


def reduced(done: Finished) -> bool:
    """Whether the settings or the number of seeds are less or other than what the study declares."""
    return not declared(done.study, done.settings, len(done.results.seeds))


def declared(study: Study, settings: StudySettings, seeds: int) -> bool:
    """Whether a run is the study as declared: its own settings, and at least its own number of seeds."""
    return settings == study.configure({}) and seeds >= study.seeds


def rule_text(study: Study) -> str:
    """The verdict rule in words: the docstring of the rule."""
    return " ".join((study.rule.__doc__ or "").split())


def markdown(done: Finished) -> str:
    """Verdict, criteria and numbers as Markdown."""
    study, results = done.study, done.results
    count = len(results.seeds)
    lines = [
        f"# {study.title}",
        "",
        f"{study.source}. {study.claim}",
        "",
        f"**Verdict: {done.verdict}.** {rule_text(study)}",
        "",
        *table(
            ("Criterion", "Part", "Holds", "Found"),
            [
                (one.criterion.says, PARTS[one.criterion.role], _yes(one.finding.holds), one.finding.found)
                for one in done.judged
            ],
        ),
        "",
        f"Mean over {count} seed{'' if count == 1 else 's'} (95% t-interval):",
        "",
        *table(("", *_shown_metrics(done)), [(cell, *(_one_line(*v) for v in row)) for cell, row in rows(done)]),
        "",
        *(f"- {metric}: {study.metrics[metric]}" for metric in _shown_metrics(done)),
        "",
        f"Settings: {', '.join(f'{name} {shown(value)}' for name, value in done.settings)}.",
    ]
    return "\n".join(lines) + "\n"


def rows(done: Finished) -> list[tuple[str, list[tuple[str, str]]]]:
    """Each cell with (mean, interval) of every metric as text."""
    results, metrics = done.results, _shown_metrics(done)
    return [
        (cell, [_texts(results.mean(cell, metric)) if results.has(cell, metric) else ("", "") for metric in metrics])
        for cell in results.cells
    ]


def _texts(one: Estimate) -> tuple[str, str]:
    interval = f"{shown(one.low)} to {shown(one.high)}" if one.error > 0 else ""
    return shown(one.mean), interval


def _one_line(mean: str, interval: str) -> str:
    return f"{mean} ({interval})" if interval else mean


def _shown_metrics(done: Finished) -> list[str]:
    return [metric for metric in done.study.metrics if metric in done.results.metrics]


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"


def html(done: Finished) -> str:
    """The page."""
    study, metrics = done.study, _shown_metrics(done)
    count = len(done.results.seeds)
    return page.render(
        "study.html.j2",
        study=study,
        verdict=done.verdict,
        tone=TONES[done.verdict],
        reduced=reduced(done),
        rule=rule_text(study),
        byline=f"{study.source} · {count} seed{'' if count == 1 else 's'} · {duration(done.seconds)}",
        judged=[
            {"says": one.criterion.says, "role": PARTS[one.criterion.role], "found": one.finding.found}
            | {"holds": one.finding.holds, "tone": _tone(one.criterion.role, one.finding.holds)}
            for one in done.judged
        ],
        light=_source(picture(study, done.results, theme.LIGHT)),
        dark=_source(picture(study, done.results, theme.DARK)),
        alt=f"Results of the study {study.slug}: {', '.join(metrics)} by arm",
        seeds=count,
        metrics=metrics,
        table=rows(done),
        columns=[(metric, study.metrics[metric]) for metric in metrics],
        settings=[(name, shown(value)) for name, value in done.settings],
        versions=list(versions().items()),
        command=command(),
    )


def _tone(role: str, holds: bool) -> str:
    """Colour of a criterion's answer: good for the claim, bad for it, or neither."""
    if role == "noted":
        return "soft"
    return "good" if holds == (role == "must") else "poor"


def _source(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def overview(done: Mapping[str, Finished], folder: Path) -> Path:
    """``index.html`` and ``index.md`` over studies in subfolders named by their slugs; the path of the page."""
    total = sum(one.seconds for one in done.values())
    counts = {verdict: sum(one.verdict == verdict for one in done.values()) for verdict in TONES}
    summary = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    summary = f"{len(done)} studies in {duration(total)}: {summary}"
    lines = table(
        ("Study", "Claim", "Verdict"),
        [(f"[{slug}]({slug}/table.md)", one.study.claim, one.verdict) for slug, one in done.items()],
    )
    write_text(folder / "index.md", "\n".join(["# Studies", "", f"{summary}.", "", *lines]) + "\n")
    listed = [
        {"slug": slug, "page": f"{slug}/study.html", "claim": one.study.claim, "source": one.study.source}
        | {"verdict": one.verdict, "tone": TONES[one.verdict]}
        | {"seeds": len(one.results.seeds), "time": duration(one.seconds)}
        for slug, one in done.items()
    ]
    return page.write(folder / "index.html", page.render("studies.html.j2", summary=summary, rows=listed))
