"""Judges of images by CLIP embeddings.

    clip        100 max(cos(image, caption), 0)           ``clip:MODEL``; torchmetrics' number. Hessel et al.'s own
                                                          (arXiv 2104.08718) is 2.5 max(cos, 0), a fortieth of it
    pickscore   exp(logit scale) cos(image, caption)      ``pickscore:MODEL`` (arXiv 2305.01569)
    hps         the same, of another model                ``hps:MODEL`` (arXiv 2306.09341)
    aesthetic   head(image / |image|)                     ``aesthetic:CLIP,HEAD.safetensors``; the caption is not read

PickScore and HPS are CLIP models whose softmax over images was fitted to people's choices, so the sigmoid of a difference is
the probability of a preference. No caption gets the words "A photo depicts" before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import Field

from rather.data.types import Prompt, Response
from rather.errors import UserError
from rather.policies.clip import Clip, unit
from rather.rewards.base import sigmoid
from rather.rewards.heads import LinearHead
from rather.rewards.images import ImageJudge, caption_of, opened
from rather.worlds.query import QueryOptions, read_options, split_query

PICKSCORE = "yuvalkirstain/PickScore_v1"
HEAD = "aesthetic.safetensors"


class ClipJudge(ImageJudge):
    """Cosine of image and caption."""

    def __init__(self, clip: Clip, name: str) -> None:
        self.clip, self.name = clip, name

    def cosines(self, prompt: Prompt, responses: Sequence[Response]) -> np.ndarray:
        """[n] float64 in [-1, 1]."""
        caption = unit(self.clip.texts([caption_of(prompt, self.name)]))[0]
        return unit(self.clip.images(opened(responses, self.name))) @ caption


class ClipScore(ClipJudge):
    """100 max(cos, 0). A number to rank by; it is no probability's logarithm."""

    def score(self, prompt: Prompt, responses: Sequence[Response]) -> np.ndarray:
        return 100 * np.maximum(self.cosines(prompt, responses), 0)


class FittedClip(ClipJudge):
    """exp(logit scale) cos, of a model whose softmax over images was fitted to preferences."""

    def score(self, prompt: Prompt, responses: Sequence[Response]) -> np.ndarray:
        return self.clip.scale * self.cosines(prompt, responses)

    def probability(self, preference: float) -> float:
        return sigmoid(preference)


class Aesthetic(ImageJudge):
    """A linear head on the image's embedding; whatever the caption."""

    def __init__(self, clip: Clip, head: LinearHead, name: str) -> None:
        self.clip, self.head, self.name = clip, head, name

    def score(self, prompt: Prompt, responses: Sequence[Response]) -> np.ndarray:
        return self.head(unit(self.clip.images(opened(responses, self.name))))


class ClipOptions(QueryOptions):
    """Keys of the query in ``pickscore:MODEL?processor=FOLDER``."""

    processor: str | None = Field(None, description="folder or hub name of the processor, where it is not MODEL's")


def open_clip(rest: str) -> ClipScore:
    """``clip:MODEL``."""
    return ClipScore(model_of(rest, "clip"), f"clip:{rest}")


def open_pickscore(rest: str) -> FittedClip:
    """``pickscore``, ``pickscore:MODEL``."""
    return FittedClip(model_of(rest or PICKSCORE, "pickscore"), f"pickscore:{rest or PICKSCORE}")


def open_hps(rest: str) -> FittedClip:
    """``hps:MODEL``, a checkpoint converted to the format of transformers."""
    return FittedClip(model_of(rest, "hps"), f"hps:{rest}")


def open_aesthetic(rest: str) -> Aesthetic:
    """``aesthetic:FOLDER`` with ``aesthetic.safetensors`` in it, or ``aesthetic:CLIP,HEAD.safetensors``."""
    model, comma, head = rest.partition(",")
    path = Path(head if comma else Path(model.partition("?")[0]) / HEAD).expanduser()
    if not path.is_file():
        fix = (
            "write aesthetic:CLIP,HEAD.safetensors; a pickled head (.pth) is not read, save its weights as safetensors"
        )
        raise UserError(f"there is no head {path}", where=f"judge aesthetic:{rest}", fix=fix)
    clip = model_of(model, "aesthetic")
    return Aesthetic(clip, LinearHead.read(path, clip.width), f"aesthetic:{rest}")


def model_of(rest: str, kind: str) -> Clip:
    """The model of ``MODEL`` or ``MODEL?processor=FOLDER``.

    Raises:
        UserError: none is named, or it cannot be loaded.
    """
    name, values = split_query(rest, f"judge {kind}:{rest}")
    if not name:
        raise UserError("needs a CLIP model", where=f"judge {kind}", fix=f"write {kind}:MODEL, a folder or a hub name")
    return Clip(name, read_options(ClipOptions, values, f"judge {kind}:{rest}").processor)
