"""Pages of the documentation: one for each study that was run for it, and an index over the pages that are there."""

from __future__ import annotations

from pathlib import Path

import yaml

from rather.errors import UserError
from rather.report.markdown import table
from rather.report.numbers import duration
from rather.studies.base import Study, StudySettings
from rather.studies.figure import picture
from rather.studies.report import declared, markdown, write_bytes
from rather.studies.runner import Finished
from rather.training.record import check_writable, write_text

INDEX = "index.md"


def check(study: Study, settings: StudySettings, seeds: int, folder: Path) -> None:
    """Refuse a run whose numbers do not belong into the documentation, before it is run.

    Raises:
        UserError: the settings or seeds are not the study's own, or the folder cannot be written.
    """
    if not declared(study, settings, seeds):
        fix = f"run `rather study {study.slug} --docs {folder}` without --tiny, --set and fewer --seeds"
        raise UserError("only the study as declared goes into the documentation", where="--docs", fix=fix)
    check_writable(folder)


def write(done: Finished, folder: Path) -> Path:
    """Write ``SLUG.md`` and ``SLUG.png``, and the index anew; the path of the page. Raises as ``check`` does."""
    study = done.study
    check(study, done.settings, len(done.results.seeds), folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{study.slug}.md"
    write_bytes(path.with_suffix(".png"), picture(study, done.results))
    write_text(path, page(done))
    write_text(folder / INDEX, index(folder))
    return path


def page(done: Finished) -> str:
    """The page: front matter that the index reads, verdict, criteria, numbers, picture, docstring and command."""
    study = done.study
    front = {"study": study.slug, "source": study.source, "claim": study.claim, "verdict": done.verdict}
    return "\n".join(
        [
            "---",
            yaml.safe_dump(front, sort_keys=False, allow_unicode=True, width=10_000).strip(),
            "---",
            "",
            markdown(done),
            f"![Results of the study {study.slug}]({study.slug}.png)",
            "",
            "## The study",
            "",
            "```text",
            study.text,
            "```",
            "",
            f"Made by `rather study {study.slug} --docs docs/studies` in {duration(done.seconds)}.",
            "",
        ]
    )


def index(folder: Path) -> str:
    """The index over the pages in ``folder``."""
    fronts = [_front(path) for path in sorted(folder.glob("*.md")) if path.name != INDEX]
    rows = [(f"[{one['study']}]({one['study']}.md)", one["claim"], one["verdict"], one["source"]) for one in fronts]
    lines = [
        "# Studies",
        "",
        "Each study puts a paper's claim to a small experiment whose truth is known. What has to be seen, and what would",
        "refute the claim, is written down in the study's file before the numbers. A page is what one command printed:",
        "`rather study SLUG --docs docs/studies`.",
        "",
        *table(("Study", "Claim", "Verdict", "Source"), rows),
    ]
    return "\n".join(lines) + "\n"


def _front(path: Path) -> dict[str, str]:
    return yaml.safe_load(path.read_text(encoding="utf-8").split("---")[1])
