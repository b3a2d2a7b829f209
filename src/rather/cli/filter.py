"""``rather filter DATA --by fifa --keep 0.5%``: a few good pairs instead of all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from rather.inspection.filtering import Scored
    from rather.policies.text_embedding import TextEmbedder
    from rather.rewards.rating import PromptRater
    from rather.training.display import Display


def filter(
    data: Annotated[str, typer.Argument(help="preferences: a file, a folder, a dataset name, or a world")],
    out: Annotated[Path, typer.Option(help="the comparisons that are kept, best first, a .jsonl file")],
    by: Annotated[Literal["fifa"], typer.Option(help="how they are scored: rather filter --help says more")] = "fifa",
    keep: Annotated[
        str, typer.Option(metavar="N|P%", help="how many, or which share of those with an order")
    ] = "0.5%",
    judge: Annotated[
        str | None,
        typer.Option(
            help="proxy reward of the margins: a judge of text or of images (default: the data's own margins)"
        ),
    ] = None,
    rater: Annotated[
        str | None, typer.Option(metavar="MODEL", help="language model that rates prompts (default: all are alike)")
    ] = None,
    embedder: Annotated[
        str,
        typer.Option(metavar="MODEL|none", help="what places prompts beside each other; none: all are equally far"),
    ] = "minilm",
    neighbour: Annotated[int, typer.Option(min=1, help="diversity is the distance to the so-manieth prompt")] = 5,
    alpha: Annotated[float, typer.Option(min=0, help="weight of the prompt's rating")] = 0.5,
    gamma: Annotated[float, typer.Option(min=0, help="weight of the prompt's distance to others")] = 0.5,
    margin: Annotated[
        Literal["signed", "abs"], typer.Option(help="abs also keeps pairs whose label the judge strongly contradicts")
    ] = "signed",
    normalize: Annotated[
        Literal["minmax", "none"], typer.Option(help="each term to [0, 1] over the data, or not")
    ] = "minmax",
    entropy: Annotated[
        Literal["log1p", "log"], typer.Option(help="of a distance; log is -inf at equal prompts")
    ] = "log1p",
    per_prompt: Annotated[int | None, typer.Option(min=1, help="keep at most so many of one prompt")] = None,
    scores: Annotated[Path | None, typer.Option(help="also write every score and its parts, a .jsonl file")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="use the first so many comparisons")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="stop at the first row that cannot be used")] = False,
) -> None:
    """Keep the best comparisons: FiFA's score is margin + alpha * quality of the prompt + gamma * its distance to others.

    A judge that filters should not be the one that measures the result afterwards. The same command goes on where it was
    stopped.
    """
    from rather import rewards
    from rather.data.load import load
    from rather.data.parts import Parts
    from rather.data.writing import to_row, write_jsonl
    from rather.errors import UserError
    from rather.inspection.fifa import Fifa, best
    from rather.inspection.filtering import score
    from rather.rewards.base import require_suited
    from rather.training.display import Display
    from rather.training.finish import no_foreign_bars

    share = _share(keep)
    for name, path in (("--out", out), ("--scores", scores)):
        if path is not None and not path.parent.is_dir():
            raise UserError("there is no such folder", where=f"{name} {path}", fix="make it first, or choose another")
        if path is not None and Path(data).exists() and path.exists() and path.samefile(data):
            raise UserError("would overwrite the data", where=f"{name} {path}", fix="choose another name")
    no_foreign_bars()
    comparisons = load(data, strict=strict, limit=limit)
    proxy = rewards.judge(judge) if judge else None
    for first in comparisons[:1]:
        if isinstance(first.responses[0], bytes):
            to_row(first)  # cannot be written: better told now than in the end
        if proxy is not None:
            require_suited(proxy, first.responses)
    rated_by = _rater(rater) if rater else None
    embed = _embedder(embedder) if embedder != "none" and gamma else None
    display = Display(show=True)
    parts = Parts(out, {"judge": judge, "rater": rater})
    fifa = Fifa(alpha, gamma, margin, normalize, entropy)
    found = score(
        list(comparisons),
        fifa,
        parts=parts,
        judge=proxy,
        rater=rated_by,
        embed=embed,
        k=neighbour,
        progress=display.progress,
    )
    total = len(found.comparisons)
    wanted = share if isinstance(share, int) else max(1, round(share * total))
    chosen = best(found.score, wanted, found.prompts, per_prompt)
    write_jsonl((found.comparisons[index] for index in chosen), out)
    if scores is not None:
        _write_scores(found, set(chosen), scores)
    parts.clear()
    _tell(display, found, chosen)
    if comparisons.refused:
        display.warn(f"{len(comparisons.refused)} rows cannot be used: rather check {data} names each, and why")
    if found.unordered:
        typer.echo(f"{found.unordered} comparisons have no order and are left out")
    if len(chosen) < wanted:
        typer.echo(f"{wanted} were asked for")
    typer.echo(f"{len(chosen)} of {total} comparisons in {out}")


def _share(keep: str) -> int | float:
    """A number of comparisons, or a share of them."""
    from rather.errors import UserError

    text = keep.strip()
    try:
        value = float(text.removesuffix("%")) / 100 if text.endswith("%") else int(text)
    except ValueError:
        value = 0
    if value <= 0 or (isinstance(value, float) and not value <= 1):
        raise UserError("neither a number nor a share", where=f"--keep {keep}", fix="write 5000 or 0.5%")
    return value


def _rater(model: str) -> PromptRater:
    from rather.rewards.opening import open_language_model
    from rather.rewards.rating import PromptRater

    return PromptRater(open_language_model(model), model)


def _embedder(model: str) -> TextEmbedder:
    from rather.policies.text_embedding import TextEmbedder

    return TextEmbedder(model)


def _write_scores(found: Scored, kept: set[int], path: Path) -> None:
    import json

    from rather.data.parts import write_whole

    rows = [
        {
            "id": one.id,
            "score": float(found.score[index]),
            "margin": float(found.margin[index]),
            "quality": float(found.quality[index]),
            "distance": float(found.distance[index]),
            "kept": index in kept,
        }
        for index, one in enumerate(found.comparisons)
    ]
    write_whole(path, "".join(json.dumps(row) + "\n" for row in rows).encode())


def _tell(display: Display, found: Scored, chosen: list[int]) -> None:
    """All the data beside what is kept."""
    everything = list(range(len(found.comparisons)))
    columns: dict[str, Callable[[list[int]], str]] = {
        "comparisons": lambda some: f"{len(some):,}",
        "different prompts": lambda some: f"{len({found.prompts[i] for i in some}):,}",
        "mean margin": lambda some: f"{found.margin[some].mean():.4g}",
        "label contradicted by the judge": lambda some: f"{(found.margin[some] < 0).mean():.1%}",
    }
    if found.quality.any():
        columns["mean rating of the prompt"] = lambda some: f"{found.quality[some].mean():.3f}"
    if found.distance.any():
        columns["mean distance to other prompts"] = lambda some: f"{found.distance[some].mean():.3f}"
    rows = [[label, of(everything), of(chosen)] for label, of in columns.items()]
    display.table("filtered by fifa", ["", "all", "kept"], rows)
