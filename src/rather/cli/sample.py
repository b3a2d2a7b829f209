"""``rather sample``: groups of a model's own responses, scored by a judge."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def sample(
    model: Annotated[str, typer.Option(help="language model: a folder, a hub name or an alias")],
    data: Annotated[str, typer.Option(help="prompts: any data that rather reads; its responses are not used")],
    judge: Annotated[
        str,
        typer.Option(
            help="a trained reward model (RUN or RUN/model), likelihood:MODEL, choice:MODEL, checker:instructions, length"
        ),
    ],
    out: Annotated[Path, typer.Option(help="JSONL file of prompts with responses and scores")],
    n: Annotated[int, typer.Option(min=2, help="responses of each prompt")] = 5,
    keep: Annotated[
        int | None, typer.Option(min=2, help="keep so many, those farthest apart by edit distance (default: all)")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="use the first so many rows")] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="longest response, in tokens")] = 128,
    temperature: Annotated[float, typer.Option(min=0.0, help="divides the logits")] = 1.0,
    top_p: Annotated[float, typer.Option(min=0.0, max=1.0, help="nucleus; 1 keeps the whole vocabulary")] = 1.0,
    max_length: Annotated[int, typer.Option(min=2, help="longest prompt, in tokens")] = 2048,
    template: Annotated[
        Literal["auto", "chat", "none"], typer.Option(help="chat template: auto uses the model's own where it has one")
    ] = "auto",
    seed: Annotated[int, typer.Option(min=0, help="of the responses")] = 0,
) -> None:
    """Sample responses of a model and score them: data for --method gpo and --method pad.

    One iteration of GPO is rather sample with the policy and a judge, then rather train --method gpo with the same policy.
    For ranking distillation the model is the student and the judge its teacher: likelihood:TEACHER or choice:TEACHER.
    """
    from rich.console import Console
    from rich.progress import track

    from rather import rewards
    from rather.data.load import load
    from rather.data.writing import write_jsonl
    from rather.errors import UserError
    from rather.rewards.groups import Sampling, Tally, groups
    from rather.rewards.opening import open_language_model

    if not out.parent.is_dir():
        raise UserError("there is no such folder", where=f"--out {out}", fix="make it first, or choose another --out")
    prompts = load(data, limit=limit)
    judged_by = rewards.judge(judge)
    if judged_by.judges != "text":
        fix = "rather evaluate RUN --judge scores the images of an image pipeline"
        raise UserError(
            "judges images, and responses are sampled of language models", where=f"--judge {judge}", fix=fix
        )
    policy = open_language_model(model, template=template, max_length=max_length)
    sampling = Sampling(n, keep, max_new_tokens, temperature, top_p, seed)
    tally, console = Tally(), Console(stderr=True)
    found = groups(policy, list(prompts), judged_by, sampling, tally)
    shown = track(found, description="sampling", total=len(prompts), console=console, transient=True)
    write_jsonl(shown, out)
    typer.echo(f"{tally.written} groups in {out}")
    for reason, count in tally.left_out.most_common():
        typer.echo(f"{count} prompts left out: {reason}")
    if not tally.written:
        out.unlink()
        raise UserError("no prompt gave a group", where=f"--data {data}", fix="see the reasons above")
