"""``rather study SLUG``: does the paper's claim hold? A small experiment with a known truth, and an honest verdict."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rather.errors import UserError

if TYPE_CHECKING:
    from rather.studies.base import Study
    from rather.studies.runner import Finished

FOLDER = Path("runs") / "studies"


def study(
    slug: Annotated[str | None, typer.Argument(help="which study (--list names them)", show_default=False)] = None,
    everything: Annotated[bool, typer.Option("--all", help="run every study and write one page of verdicts")] = False,
    listing: Annotated[bool, typer.Option("--list", help="name the studies and their claims")] = False,
    seeds: Annotated[int | None, typer.Option(min=1, help="how many seeds (default: the study's own)")] = None,
    out: Annotated[Path | None, typer.Option("--out", "--output", help="folder (default runs/studies/SLUG)")] = None,
    tiny: Annotated[bool, typer.Option("--tiny", help="tiny settings: shows that it runs, says little")] = False,
    sets: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="change a setting; may be repeated")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="run finished seeds again")] = False,
    docs: Annotated[Path | None, typer.Option(help="write SLUG.md, SLUG.png and the index into this folder")] = None,
) -> None:
    """Run a study: the claim of a paper as an experiment with a known truth, and a verdict laid down beforehand.

    Finished seeds are kept: the same command goes on where it was interrupted.
    """
    if sum((slug is not None, everything, listing)) != 1:
        raise UserError("give one study, --all or --list", where="rather study", fix="rather study --list names them")
    if listing:
        _list()
        return
    if everything and sets:
        raise UserError("--set belongs to one study", where="--set", fix="give the study's name instead of --all")
    from rather.studies import pages, registry, report, runner

    chosen = _all() if slug is None else [registry.get(slug)]
    settings = {one.slug: one.configure(_settings(sets or []), tiny=tiny) for one in chosen}
    for one in chosen if docs else []:
        pages.check(one, settings[one.slug], seeds or one.seeds, docs or Path())
    done: dict[str, Finished] = {}
    for one in chosen:
        folder = (out or FOLDER) / one.slug if everything else out or FOLDER / one.slug
        done[one.slug] = runner.run_study(one, folder, settings[one.slug], seeds=seeds, fresh=fresh)
        _print(done[one.slug], report.write(done[one.slug], folder))
        if docs:
            pages.write(done[one.slug], docs)
    if everything:
        typer.echo(report.overview(done, out or FOLDER))


def _all() -> list[Study]:
    """Every study whose packages are installed; names the others."""
    from rather.studies import registry, runner

    found = list(registry.studies().values())
    for one in found:
        if gone := runner.missing(one):
            typer.echo(f"left out: {one.slug} (needs {', '.join(gone)})", err=True)
    return [one for one in found if not runner.missing(one)]


def _settings(pairs: list[str]) -> dict[str, Any]:
    """Names and values; a value is read as YAML, so that ``[1, 2]`` is a list."""
    import yaml

    split = {pair: pair.partition("=") for pair in pairs}
    for pair, (_, equals, _) in split.items():
        if not equals:
            raise UserError(f"{pair!r} is not NAME=VALUE", where="--set")
    try:
        return {name.strip().replace("-", "_"): yaml.safe_load(value) for name, _, value in split.values()}
    except yaml.YAMLError:
        raise UserError("a value cannot be read", where="--set", fix="write NAME=NUMBER, or NAME=[1, 2]") from None


def _list() -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from rather.studies.registry import studies

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("study", "claim", "source"):
        table.add_column(column, no_wrap=column == "study")
    for one in studies().values():
        table.add_row(*map(escape, (one.slug, one.claim, one.source)))
    Console().print(table)


def _print(done: Finished, page: Path) -> None:
    """Criteria with what was found, the verdict, and where the page is."""
    typer.echo(f"{done.study.slug}: {done.study.claim}")
    for one in done.judged:
        mark = "holds" if one.finding.holds else "does not hold"
        typer.echo(f"  [{one.criterion.role}] {one.criterion.says}: {mark}\n      {one.finding.found}")
    typer.echo(f"  verdict: {done.verdict}\n  {page}\n")
