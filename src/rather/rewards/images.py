"""Images as judges take them, and the judge of the world of shapes.

A response is what data has for an image: the bytes of a file, or a path.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rather.data.refusal import Refused
from rather.data.types import Prompt, Response
from rather.errors import UserError
from rather.rewards.base import Judge


class ImageJudge(Judge):
    """A judge whose responses are images and whose prompts are captions."""

    judges = "images"


def opened(responses: Sequence[Response], where: str) -> list[Any]:
    """PIL images in RGB, upright, on white where they are transparent.

    Raises:
        UserError: one is no image or cannot be read, or Pillow is not installed.
    """
    try:
        from rather.policies.pipelines.pixels import read_image

        for response in responses:
            if not isinstance(response, bytes | str | Path):
                raise Refused("wrong-type", f"a response is a {type(response).__name__}, not an image's bytes or path")
        return [read_image(str(one) if isinstance(one, Path) else one) for one in responses]
    except ImportError:
        raise UserError("images need Pillow", where=where, fix="pip install 'rather[images]'") from None
    except Refused as refused:
        fix = "it judges images: bytes of a file, or a path"
        raise UserError(refused.reason, where=where, fix=fix) from None


def caption_of(prompt: Prompt, where: str) -> str:
    """The prompt, if it is the caption of an image.

    Raises:
        UserError: it is no text.
    """
    if not isinstance(prompt, str):
        raise UserError(f"a caption is text, not a {type(prompt).__name__}", where=where)
    return prompt


class ShapesChecker(ImageJudge):
    """1 for an image that holds exactly what its caption asks for, when a program reads it back; else 0.

    Args:
        graded: instead how much of it the image shows, ``rather.worlds.shapes.score.grade``.
    """

    def __init__(self, graded: bool = False) -> None:
        self.graded, self.name = graded, "checker:shapes-grades" if graded else "checker:shapes"

    def score(self, prompt: Prompt, responses: Sequence[Response]) -> np.ndarray:
        """
        Raises:
            UserError: the caption is none of the world's, or an image is not of its size.
        """
        from rather.policies.pipelines.pixels import pixels_of
        from rather.worlds.shapes.caption import parse
        from rather.worlds.shapes.score import grade, obeys

        caption = caption_of(prompt, self.name)
        demand = parse(caption)
        if demand is None:
            fix = (
                "it judges captions of world:shapes, such as 'a red circle above a blue square on a white background'"
            )
            raise UserError(f"no caption of the world of shapes: {caption[:80]!r}", where=self.name, fix=fix)
        try:
            judged = grade if self.graded else obeys
            return np.array([judged(demand, pixels_of(image)) for image in opened(responses, self.name)], float)
        except ValueError as error:  # of the size
            raise UserError(str(error), where=self.name, fix="give images as the world draws them") from None
