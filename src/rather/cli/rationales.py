"""``rather rationales DATA --model M --out FILE``: a model writes why each chosen answer is the better one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rather.errors import UserError


def rationales(
    data: Annotated[str, typer.Argument(help="pairs: a file, a folder, a dataset name, or a world")],
    model: Annotated[str, typer.Option("--model", "-m", help="any chat model, by name or folder")],
    out: Annotated[Path, typer.Option(help="the pairs with their rationales, a .jsonl file")],
    kind: Annotated[
        str, typer.Option(metavar="general|detailed", help="one short sentence, or what exactly makes the difference")
    ] = "detailed",
    chosen_first: Annotated[
        bool, typer.Option("--chosen-first", help="show the chosen answer first, not in an order that is drawn")
    ] = False,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="longest rationale, in tokens")] = 128,
    temperature: Annotated[float, typer.Option(min=0, help="0 takes the most likely token")] = 0.7,
    top_p: Annotated[float, typer.Option(help="nucleus sampling; 1 keeps the whole vocabulary")] = 1.0,
    precision: Annotated[str, typer.Option(metavar="bfloat16|float32", help="number type of the model")] = "bfloat16",
    limit: Annotated[int | None, typer.Option(min=1, help="use the first so many comparisons")] = None,
    seed: Annotated[int, typer.Option(min=0, help="of the samples and of the order of the answers")] = 0,
    strict: Annotated[bool, typer.Option("--strict", help="stop at the first row that cannot be used")] = False,
) -> None:
    """Write a rationale for each pair: why the chosen answer is better. For --method rationale_dpo.

    The model sees both answers under fixed names, in an order that is drawn for each pair and stored with the text, and
    is told which one was preferred. The same command goes on where it was stopped.
    """
    from rather.data.load import load
    from rather.sampling.rationales import RationaleSettings, write_rationales
    from rather.training.display import Display
    from rather.training.finish import no_foreign_bars

    if kind not in ("general", "detailed"):
        raise UserError(f"there is no kind {kind!r}", where="--kind", fix="general or detailed")
    if precision not in ("bfloat16", "float32"):
        raise UserError(f"there is no precision {precision!r}", where="--precision", fix="bfloat16 or float32")
    if Path(data).exists() and out.exists() and out.samefile(data):
        raise UserError("would overwrite the data", where=f"--out {out}", fix="choose another name")
    settings = RationaleSettings(model, kind, chosen_first, max_new_tokens, temperature, top_p, precision, seed=seed)
    no_foreign_bars()
    comparisons = load(data, strict=strict, limit=limit)
    display = Display(show=True)
    written = write_rationales(list(comparisons), settings, out, progress=display.progress)
    if comparisons.refused:
        display.warn(f"{len(comparisons.refused)} rows cannot be used: rather check {data} names each, and why")
    typer.echo(f"{written.rationales} rationales in {out}")
    if written.empty:
        typer.echo(f"{written.empty} pairs have none: too long for the model, or nothing was written")
    if written.others:
        typer.echo(f"{written.others} comparisons are no pair and have none")
