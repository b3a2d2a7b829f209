"""``rather sample``: a model's own responses, scored by a judge; groups of texts, or pairs of images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def sample(
    model: Annotated[str, typer.Option(help="language model or image pipeline: a folder, a hub name or an alias")],
    data: Annotated[str, typer.Option(help="prompts: any data that rather reads; its responses are not used")],
    judge: Annotated[
        str,
        typer.Option(
            help="a trained reward model (RUN or RUN/model), likelihood:MODEL, choice:MODEL, checker:instructions, length, "
            "python:MODULE:FUNCTION (the one for images)"
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="JSONL file of prompts with responses and scores; images are put beside it")
    ],
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
    image_size: Annotated[
        int | None, typer.Option(min=8, help="side of the images of a pipeline (default: its own)")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="steps of a pipeline's sampler (default 20)")] = None,
    guidance: Annotated[
        float | None, typer.Option(min=0.0, help="guidance scale of a pipeline (default: its own)")
    ] = None,
    negative: Annotated[
        str | None,
        typer.Option(
            help="pipeline that was trained to be worse (--method self_npo, diffusion_npo): guidance goes away from it"
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="of the responses")] = 0,
) -> None:
    """Sample responses of a model and score them: data for --method gpo and --method pad; of a pipeline, for --method pnapo.

    One iteration of GPO is rather sample with the policy and a judge, then rather train --method gpo with the same policy.
    For ranking distillation the model is the student and the judge its teacher: likelihood:TEACHER or choice:TEACHER.
    A pipeline gives pairs, the best and the worst of n images, which remember the noise that each image was made from.
    """
    from collections import Counter

    from rich.console import Console
    from rich.progress import track

    from rather import rewards
    from rather.data.load import load
    from rather.data.writing import write_jsonl
    from rather.errors import UserError
    from rather.policies.registry import IMAGE, prefix_of

    if not out.parent.is_dir():
        raise UserError("there is no such folder", where=f"--out {out}", fix="make it first, or choose another --out")
    of_images = {"image-size": image_size, "steps": steps, "guidance": guidance, "negative": negative}
    images = prefix_of(model) == IMAGE
    for name, value in of_images.items():
        if value is not None and not images:
            raise UserError("belongs to an image pipeline", where=f"--{name}", fix="leave it out, or give a pipeline")
    if images and keep is not None:
        raise UserError("is for texts", where="--keep", fix="of images the best and the worst are kept")
    prompts = load(data, limit=limit)
    judged_by = rewards.judge(judge)
    needed = "images" if images else "text"
    if judged_by.judges not in (needed, "any"):
        fix = "give a judge of what the model makes, or rather evaluate RUN --judge for the images of a run"
        raise UserError(f"judges {judged_by.judges}, the model makes {needed}", where=f"--judge {judge}", fix=fix)
    left_out: Counter[str] = Counter()
    if images:
        from rather.policies.device import inference_device
        from rather.policies.pipelines.opening import guide_away, open_image
        from rather.policies.settings import PolicySettings
        from rather.sampling.tracked_images import ImageSampling, tracked_images

        pipeline = open_image(
            PolicySettings.model_validate({"model": model, "image_size": image_size, "precision": "fp32"})
        )
        pipeline.network.to(inference_device())
        away = guide_away(pipeline, negative) if negative is not None else ""
        how = ImageSampling(n, steps or ImageSampling.steps, guidance, seed, away)
        found = tracked_images(pipeline, list(prompts), judged_by.score, out, how, judge=judge, left_out=left_out)
    else:
        from rather.rewards.groups import Sampling, Tally, groups
        from rather.rewards.opening import open_language_model

        policy = open_language_model(model, template=template, max_length=max_length)
        sampling = Sampling(n, keep, max_new_tokens, temperature, top_p, seed)
        found = groups(policy, list(prompts), judged_by, sampling, Tally(left_out=left_out))
    shown = track(found, description="sampling", total=len(prompts), console=Console(stderr=True), transient=True)
    written = write_jsonl(shown, out)
    what = "pair" if images else "group"
    typer.echo(f"{written} {what}s in {out}")
    for reason, count in left_out.most_common():
        typer.echo(f"{count} prompts left out: {reason}")
    if not written:
        out.unlink()
        raise UserError(f"no prompt gave a {what}", where=f"--data {data}", fix="see the reasons above")
