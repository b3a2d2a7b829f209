"""``rather methods`` lists every method; ``rather explain METHOD`` tells what one does."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rather.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from rather.methods.base import Method

PIPED_WIDTH = 170
PASSES = (
    "passes: forward passes over each response in a step, policy + reference; a reference's text scores are computed "
    "once and cached."
)
SHOWN = (-10, -5, -2, -1, 0, 1, 2, 5, 10)


def methods(as_json: Annotated[bool, typer.Option("--json", help="print everything as JSON")] = False) -> None:
    """List every method: its equation, what it needs, where it comes from."""
    from rather.methods.describe import card
    from rather.methods.registry import methods as registered

    cards = [card(method) for method in registered().values()]
    if as_json:
        import json

        typer.echo(json.dumps(cards, indent=2, ensure_ascii=False))
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("name", "also", "loss of a pair", "needs", "passes", "source"):
        table.add_column(column, overflow="fold", no_wrap=column == "name")
    for entry in cards:
        names = ", ".join(entry["aliases"])
        needs = ", ".join([*entry["needs"], *(["reference"] if entry["reference"] else [])])
        table.add_row(*_plain(entry["name"], names, entry["equation"], needs, entry["passes"], entry["source"]))
    console = _console()
    console.print(table)
    console.print(f"\n{PASSES}\nrather explain NAME tells what one does.", markup=False, highlight=False)


def explain(
    method: Annotated[str, typer.Argument(help="name or alias of a method", metavar="METHOD")],
    plot: Annotated[
        Path | None, typer.Option("--plot", help="write loss and push against the margin to this picture")
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option("--option", "-o", metavar="NAME=VALUE", help="look at it under this option")
    ] = None,
) -> None:
    """Tell what a method does: equation, options, needs, limits, and its push as the margin grows."""
    from rather.methods.curve import undrawn
    from rather.methods.registry import get

    chosen, given = get(method), _options(option or [])
    chosen.configure(given)
    _check_picture(plot)
    if plot is not None and (reason := undrawn(chosen, given)):
        raise UserError(f"{chosen.name!r} has no curve of a single pair: {reason}", where="--plot")
    console = _console()
    _print_text(console, chosen)
    _print_options(console, chosen)
    _print_behaviour(console, chosen, given)
    if plot is not None:
        from rather.methods.plot import plot as draw

        draw(chosen, plot, given)
        typer.echo(f"\n{plot}")


def _print_text(console: Console, method: Method) -> None:
    from rather.methods.describe import card, docstring, limit, limits, meaning

    entry = card(method)
    console.print(f"{method.name}: {method.title}\n", style="bold", markup=False, highlight=False)
    console.print(docstring(method), markup=False, highlight=False)
    rows = {
        "equation": method.equation,
        "source": method.source,
        "also called": ", ".join(method.aliases) or "-",
        "needs": ", ".join(entry["needs"]),
        "reference": "yes" if entry["reference"] else "no",
        "passes": entry["passes"],
        "equals DPO": limit(method),
    }
    console.print()
    for name, value in rows.items():
        console.print(f"{name:>12}  {value}", markup=False, highlight=False)
    for said in limits(method):
        console.print(f"{'equals':>12}  {said}", markup=False, highlight=False)
    for name, reason in method.exceptions.items():
        console.print(f"{'does not hold':>12}  {name}: {reason}", markup=False, highlight=False)
    if said := meaning(method):
        console.print("\nin logic (arXiv 2412.17696; Mw, Ml: the model accepts winner, loser)", markup=False)
        console.print(textwrap.indent(said, "  "), markup=False, highlight=False)


def _print_options(console: Console, method: Method) -> None:
    from rich.table import Table

    from rather.methods.describe import options

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("option", "default", "meaning"):
        table.add_column(column)
    for entry in options(method.options):
        default = "-" if entry["default"] is None else str(entry["default"])
        table.add_row(*_plain(entry["name"], default, entry["description"]))
    console.print()
    console.print(table)


def _print_behaviour(console: Console, method: Method, given: dict[str, Any]) -> None:
    from rich.table import Table

    from rather.methods.curve import behaviour, curve, undrawn

    if reason := undrawn(method, given):
        console.print(f"\nno curve of a single pair: {reason}", markup=False, highlight=False)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("scaled margin z", "loss", "chosen pushed up", "rejected pushed down"):
        table.add_column(column, justify="right")
    for point in curve(method, SHOWN, given):
        table.add_row(f"{point.margin:g}", *(f"{value:.4g}" for value in (point.loss, point.chosen, point.rejected)))
    console.print("\none pair as its margin grows (push: minus the gradient on the scaled reward)", markup=False)
    console.print(table)
    console.print()
    for line in behaviour(method, given):
        console.print(f"- {line}", markup=False, highlight=False)


def _options(pairs: list[str]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise UserError(f"{pair!r} is not NAME=VALUE", where="--option")
        given[name.replace("-", "_")] = value
    return given


def _check_picture(path: Path | None) -> None:
    known = {".png", ".svg", ".pdf"}
    if path is not None and path.suffix.lower() not in known:
        raise UserError(f"no picture format {path.suffix!r}", where="--plot", fix=f"known: {', '.join(sorted(known))}")


def _plain(*cells: str) -> list[str]:
    """Cells in which brackets are text, not markup."""
    from rich.markup import escape

    return [escape(cell) for cell in cells]


def _console() -> Console:
    """A console; wide where nobody's terminal limits it."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=PIPED_WIDTH)
