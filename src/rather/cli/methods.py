"""``rather methods`` lists every method; ``rather explain METHOD`` tells what one does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rather.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from rather.methods.base import Method

PIPED_WIDTH = 150
SHOWN = (-10, -4, -2, -1, 0, 1, 2, 4, 10)


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
    for column in ("name", "also", "loss of a pair", "needs", "reference", "source"):
        table.add_column(column, overflow="fold", no_wrap=column in ("name", "reference"))
    for entry in cards:
        names = ", ".join(entry["aliases"])
        reference = "yes" if entry["reference"] else "no"
        needs = ", ".join(entry["needs"])
        table.add_row(*_plain(entry["name"], names, entry["equation"], needs, reference, entry["source"]))
    console = _console()
    console.print(table)
    console.print("\nrather explain NAME tells what one does.", markup=False)


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
    from rather.methods.registry import get

    chosen, given = get(method), _options(option or [])
    chosen.configure(given)
    _check_picture(plot)
    console = _console()
    _print_text(console, chosen)
    _print_options(console, chosen)
    _print_behaviour(console, chosen, given)
    if plot is not None:
        from rather.methods.plot import plot as draw

        draw(chosen, plot, given)
        typer.echo(f"\n{plot}")


def _print_text(console: Console, method: Method) -> None:
    from rather.methods.describe import card, docstring

    entry = card(method)
    console.print(f"{method.name}: {method.title}\n", style="bold", markup=False, highlight=False)
    console.print(docstring(method), markup=False, highlight=False)
    rows = {
        "equation": method.equation,
        "source": method.source,
        "also called": ", ".join(method.aliases) or "-",
        "needs": ", ".join(entry["needs"]),
        "reference": "yes" if entry["reference"] else "no",
        "equals DPO": _limit(method),
    }
    console.print()
    for name, value in rows.items():
        console.print(f"{name:>12}  {value}", markup=False, highlight=False)
    for name, reason in method.exceptions.items():
        console.print(f"{'does not hold':>12}  {name}: {reason}", markup=False, highlight=False)


def _limit(method: Method) -> str:
    if method.dpo_limit is None:
        return "no"
    values = ", ".join(f"{name}={value}" for name, value in method.dpo_limit.items())
    reference = "" if "reference" in method.needs else ", with a constant reference"
    return f"on a single pair{f' with {values}' if values else ''}{reference}"


def _print_options(console: Console, method: Method) -> None:
    from rich.table import Table

    from rather.methods.describe import options

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("option", "default", "meaning"):
        table.add_column(column)
    for entry in options(method):
        default = "-" if entry["default"] is None else str(entry["default"])
        table.add_row(*_plain(entry["name"], default, entry["description"]))
    console.print()
    console.print(table)


def _print_behaviour(console: Console, method: Method, given: dict[str, Any]) -> None:
    from rich.table import Table

    from rather.methods.curve import behaviour, curve

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
