"""``rather audit KIND``: one word for each audit."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from rather.inspection.did_models import Information, Mean, Sampled

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)


@app.callback()
def audit() -> None:
    """What was learned, what leaked? One audit for each question."""


@app.command()
def did(
    model: Annotated[str, typer.Option(help="language model that has learned: a folder, a hub name or an alias")],
    reference: Annotated[str, typer.Option(help="the model it was trained from")],
    data: Annotated[str, typer.Option(help="pairs: any data that rather reads")],
    rejected_model: Annotated[
        str | None, typer.Option(help="the model that wrote the rejected responses: checks the order of the margins")
    ] = None,
    samples: Annotated[
        int, typer.Option(min=0, help="responses sampled to each prompt, for the entropy over responses; 0: none")
    ] = 0,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="longest sampled response, in tokens")] = 128,
    limit: Annotated[int | None, typer.Option(min=1, help="use the first so many rows")] = None,
    max_length: Annotated[int, typer.Option(min=2, help="longest prompt with response, in tokens")] = 2048,
    template: Annotated[
        Literal["auto", "chat", "none"], typer.Option(help="chat template: auto uses the model's own where it has one")
    ] = "auto",
    seed: Annotated[int, typer.Option(min=0, help="of the samples")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Differential information (arXiv 2505.23761): has a model reinforced a few responses, or been smoothed?

    Tells how the likelihood of the data's responses has moved from the reference to the model, and the entropy of what was
    learned over the next token: low where few tokens were reinforced, the logarithm of the vocabulary where nothing was
    learned.
    """
    from rather.data.load import load
    from rather.inspection.did_models import information, sampled_entropy
    from rather.rewards.opening import open_language_model
    from rather.training.finish import no_foreign_bars

    no_foreign_bars()
    comparisons = list(load(data, limit=limit))
    settings: dict[str, Any] = {"template": template, "max_length": max_length}
    policy, before = open_language_model(model, **settings), open_language_model(reference, **settings)
    rejected = open_language_model(rejected_model, **settings) if rejected_model else None
    found = information(policy, before, comparisons, rejected)
    drawn = None
    if samples:
        drawn = sampled_entropy(policy, before, comparisons, n=samples, max_new_tokens=max_new_tokens, seed=seed)
    typer.echo(json.dumps(_plain(found, drawn), indent=1) if as_json else "\n".join(_lines(found, drawn)))


def _plain(found: Information, drawn: Sampled | None) -> dict[str, Any]:
    order = found.order
    return {
        "chosen": asdict(found.chosen),
        "rejected": asdict(found.rejected),
        "token_entropy": asdict(found.tokens),
        "vocabulary": found.vocabulary,
        "order": None if order is None else {"share": order.share, "beta_quartiles": list(order.spread)},
        "samples": None if drawn is None else asdict(drawn),
    }


def _lines(found: Information, drawn: Sampled | None) -> list[str]:
    import math
    from statistics import median

    most = math.log(found.vocabulary)
    lines = [
        f"pairs                                      {found.chosen.count:,}",
        f"change of a chosen response's log p, nats  {_text(found.chosen)}",
        f"change of a rejected one's                 {_text(found.rejected)}",
        f"entropy of what was learned, by token      {_text(found.tokens)} of {most:.4g} nats",
    ]
    if found.order is not None:
        low, middle, high = found.order.spread
        lines += [
            f"margins in the order that labels need      {found.order.share:.1%} of the pairs",
            f"beta that these imply, quartiles           {low:.3g}, {middle:.3g}, {high:.3g} (the claim is one for all)",
        ]
    if drawn is not None:
        trusted = "" if median(drawn.ess) > 2 else "; near 1: not to be trusted"
        lines += [
            f"entropy over responses, median             {median(drawn.entropy):.4g} nats, {len(drawn.entropy)} prompts",
            f"effective number of samples, median        {median(drawn.ess):.3g}{trusted}",
            f"samples that did not end, left out         {drawn.unfinished:.1%}",
        ]
    return lines


def _text(mean: Mean) -> str:
    return f"{mean.value:.4g} (s.e. {mean.error:.2g})" if mean.count > 1 else f"{mean.value:.4g}"
