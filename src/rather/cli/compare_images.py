"""``rather compare-images A B``: how far is one set of images from another?"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer


def main(
    one: Annotated[Path, typer.Argument(metavar="A", help="folder of images")],
    other: Annotated[Path, typer.Argument(metavar="B", help="folder of images, real ones for example")],
    features: Annotated[
        str,
        typer.Option(metavar="clip:MODEL|shapes", help="a CLIP model's embeddings, or what a program reads in shapes"),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="print JSON instead of words")] = False,
) -> None:
    """The Fréchet distance of two sets of images, and with CLIP features also CMMD.

    Nothing is downloaded but the model that is named, so these are not Inception numbers: compare them under the same
    features and similar numbers of images only.
    """
    from rather.inspection import image_sets
    from rather.training.display import Display
    from rather.training.finish import no_foreign_bars

    no_foreign_bars()
    for folder in (one, other):
        image_sets.images_in(folder)  # a wrong folder is told before a model is loaded
    found = image_sets.compare(one, other, image_sets.features(features), Display(show=not as_json).progress)
    if as_json:
        typer.echo(json.dumps({"features": features, **asdict(found)}))
        return
    typer.echo(f"Fréchet distance {found.frechet:.5g}")
    if found.cmmd is not None:
        typer.echo(f"CMMD {found.cmmd:.5g}")
    typer.echo(f"{found.images[0]} and {found.images[1]} images, {found.width} features each ({features})")
    if min(found.images) <= found.width:
        typer.echo("No more images than features: the Fréchet distance is too large; more images, or CMMD, tell more.")
