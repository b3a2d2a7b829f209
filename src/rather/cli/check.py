"""``rather check DATA``: is my data sound, and how was it understood?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rather.errors import UserError

if TYPE_CHECKING:
    from rather.data.comparisons import Comparisons
    from rather.data.lengths import TokenLengths
    from rather.data.types import Comparison
    from rather.data.validate import Overlap


def check(
    data: Annotated[str, typer.Argument(help="a file, a folder, a dataset name, or a world")],
    eval_data: Annotated[str | None, typer.Option(help="held-out data: how much of it is in DATA too")] = None,
    model: Annotated[str | None, typer.Option(help="count lengths in this model's tokens")] = None,
    max_length: Annotated[int | None, typer.Option(min=1, help="report what is longer; needs --model")] = None,
    split: Annotated[str | None, typer.Option(help="split of a dataset or folder that has several")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="stop after so many usable rows")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object and nothing else")] = False,
    out: Annotated[Path | None, typer.Option(help="write the good rows, normalised, to this .jsonl file")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="stop at the first row that cannot be used")] = False,
    show: Annotated[int, typer.Option(min=0, help="print so many comparisons as they were understood")] = 0,
) -> None:
    """Check preference data: format, broken rows, duplicates, contradictions, leaks, lengths."""
    from rather.data.load import load
    from rather.data.validate import overlap
    from rather.data.writing import write_jsonl

    if max_length is not None and model is None:
        raise UserError("lengths are counted in a model's tokens", where="--max-length", fix="add --model NAME")
    if out is not None and Path(data).exists() and out.exists() and out.samefile(data):
        raise UserError("would overwrite the data", where=f"--out {out}", fix="choose another name")
    loaded = load(data, split=split, strict=strict, limit=limit)
    leaks = None
    if eval_data is not None:
        leaks = overlap(loaded, load(eval_data, strict=strict))
    tokens = _tokens(loaded, model, max_length) if model is not None else None
    written = write_jsonl(loaded, out) if out is not None else None
    if as_json:
        print(json.dumps(_record(loaded, leaks, tokens, show), ensure_ascii=False))
        return
    _print_report(loaded, leaks, tokens)
    for comparison in loaded[:show]:
        _print_comparison(comparison)
    if written is not None:
        typer.echo(f"wrote {written} rows to {out}")


def _tokens(loaded: Comparisons, model: str, max_length: int | None) -> TokenLengths:
    from rather.data.lengths import measure
    from rather.policies.models import load_tokenizer

    tokenizer: Any = load_tokenizer(model)
    tokenizer.model_max_length = int(1e9)  # long texts are counted here, not warned of
    return measure(loaded, lambda text: len(tokenizer(text, add_special_tokens=False).input_ids), max_length)


def _record(loaded: Comparisons, leaks: Overlap | None, tokens: TokenLengths | None, show: int) -> dict[str, Any]:
    from dataclasses import asdict

    from rather.data.store import to_json

    found = {"source": loaded.source, "fingerprint": loaded.fingerprint, **loaded.summary}
    found["refused_rows"] = [
        {"path": refusal.source.path, "row": refusal.source.row, "code": refusal.code, "reason": refusal.reason}
        for refusal in loaded.refused
    ]
    if leaks is not None:
        found["overlap"] = asdict(leaks)
    if tokens is not None:
        found["tokens"] = tokens.summary()
    if show:
        found["comparisons"] = [json.loads(to_json(comparison)) for comparison in loaded[:show]]
    return found


def _print_report(loaded: Comparisons, leaks: Overlap | None, tokens: TokenLengths | None) -> None:
    from rich.console import Console
    from rich.table import Table

    summary = loaded.summary
    refused = summary["refused"]
    table = Table(title=loaded.source, show_header=False, title_justify="left")
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")

    def row(name: str, value: str, style: str | None = None) -> None:
        from rich.text import Text

        table.add_row(name, Text(value, style=style or ""))

    row("format", summary["format"])
    row("rows", f"{summary['rows'] + refused:,}")
    row("good", f"{summary['rows']:,}", "green")
    row("preferences", f"{summary['preferences']:,}")
    row("refused", f"{refused:,}", "red" if refused else None)
    for code, entry in summary["refused_by_reason"].items():
        places = ", ".join(entry["first"]) + (", ..." if entry["count"] > len(entry["first"]) else "")
        row(f"  {code}", f"{entry['count']:,}: {entry['reason']}\n{places}")
    row("duplicates", f"{summary['refused_by_reason'].get('duplicate', {}).get('count', 0):,}")
    places = "".join(f"\n{here} against {there}" for here, there in loaded.census.places[:3])
    row("contradictions", f"{summary['contradictions']:,}{places}", "yellow" if places else None)
    if leaks is not None:
        first = f"\nfirst: {', '.join(leaks.first)}" if leaks.first else ""
        text = f"{leaks.same:,} of {leaks.n:,} comparisons and the prompts of {leaks.prompts:,} are in both{first}"
        row("overlap with eval", text, "red" if leaks.same else "yellow" if leaks.prompts else None)
    for name, text, style in _length_lines(summary, tokens):
        row(name, text, style)
    if labels := summary.get("labels"):
        row("labels", f"{labels['desirable']:,} desirable, {labels['undesirable']:,} undesirable")
    if columns := summary.get("optional_columns"):
        row("optional columns", ", ".join(f"{name} ({count:,})" for name, count in columns.items()))
    row("fingerprint", loaded.fingerprint)
    console = Console()
    console.print(table)
    for warning in loaded.warnings:
        console.print(f"warning: {warning}", style="yellow", markup=False, highlight=False)


def _length_lines(summary: dict[str, Any], tokens: TokenLengths | None) -> list[tuple[str, str, str | None]]:
    """Lines of the report on lengths and on what they decide: name, text, style."""
    found: list[tuple[str, str, str | None]] = [
        (f"{name} characters", _percentiles(values), None) for name, values in summary["characters"].items()
    ]
    if bias := summary.get("length_bias"):
        low, high = bias["interval"]
        text = f"the longer wins {bias['longer_wins']:.1%} of {bias['n']:,} (95% interval {low:.1%} to {high:.1%})"
        found.append(("length bias", text, None))
    if tokens is None:
        return found
    counted = tokens.summary()
    found += [(f"{n} tokens", _percentiles(counted[n]), None) for n in ("prompt", "response", "total") if n in counted]
    if over := counted.get("over_long"):
        text = f"{over['rows']:,} rows ({over['share']:.1%}) exceed {tokens.max_length} tokens"
        text += f": {over['tokens_cut']:,} would be cut"
        text += f"; in {over['no_room']:,} a response alone fills it" if over["no_room"] else ""
        text += f"\nfirst: {', '.join(over['first'])}" if over["first"] else ""
        found.append(("over-long", text, "yellow" if over["rows"] else None))
    return found


def _percentiles(values: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:,.0f}" for name, value in values.items())


def _print_comparison(comparison: Comparison) -> None:
    """Prompt and responses as they will be used, each part in its own colour."""
    from rich.console import Console
    from rich.text import Text

    console = Console()
    winners, losers = {edge.winner for edge in comparison.edges}, {edge.loser for edge in comparison.edges}
    console.rule(Text(f"{comparison.source}  id {comparison.id}"), align="left")
    console.print(_lines("prompt", comparison.prompt, "cyan"))
    for index, response in enumerate(comparison.responses):
        if comparison.desirable:
            name, style = ("desirable", "green") if comparison.desirable[index] else ("undesirable", "red")
        elif len(comparison.responses) > 2:
            name, style = (
                f"response {index}",
                "green" if index not in losers else "red" if index not in winners else "yellow",
            )
        else:
            name, style = (
                ("chosen", "green")
                if index in winners
                else ("rejected", "red")
                if index in losers
                else ("response", "")
            )
        score = f" (score {comparison.scores[index]:g})" if comparison.scores else ""
        console.print(_lines(name + score, response, style))
    if len(comparison.edges) > 1:
        console.print("order: " + ", ".join(f"{e.winner} > {e.loser}" for e in comparison.edges), highlight=False)


def _lines(name: str, value: Any, style: str) -> Any:
    from rich.text import Text

    from rather.data.fields import text_of

    text = Text(f"{name}: ", style="bold")
    if isinstance(value, bytes):
        return text.append(f"image, {len(value):,} bytes", style=style)
    if not isinstance(value, tuple) or not all(isinstance(turn, dict) for turn in value):
        return text.append(text_of(value), style=style)
    for turn in value:
        text.append(f"\n  [{turn['role']}] ", style="dim").append(text_of([turn]), style=style)
        if turn.get("tool_calls"):
            text.append(f" tool calls {json.dumps(turn['tool_calls'], ensure_ascii=False)}", style=style)
    return text
