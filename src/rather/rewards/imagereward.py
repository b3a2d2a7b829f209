"""ImageReward (arXiv 2304.05977): a linear head on what BLIP makes of a caption beside an image.

    score = (head(state) - 0.16717) / 1.03334          mean and deviation as published with the weights

It was fitted by -log sigmoid(head(s_w) - head(s_l)), so the sigmoid of a difference of heads is the probability of a
preference.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from rather.data.types import Prompt, Response
from rather.errors import UserError
from rather.policies.blip import Blip
from rather.rewards.base import sigmoid
from rather.rewards.heads import LinearHead, read_tensors
from rather.rewards.images import ImageJudge, caption_of, opened
from rather.worlds.query import QueryOptions, read_options, split_query

FILE = "imagereward.safetensors"
_MEAN, _DEVIATION = 0.16717362830052426, 1.0333394966054072
_LONGEST = 35  # tokens of a caption, as published


class ImageReward(ImageJudge):
    """A linear head on the state of a caption that attends to the image."""

    def __init__(self, blip: Blip, head: LinearHead, name: str) -> None:
        self.blip, self.head, self.name = blip, head, name

    def score(self, prompt: Prompt, responses: Sequence[Response]) -> np.ndarray:
        states = self.blip.states(caption_of(prompt, self.name), opened(responses, self.name))
        return (self.head(states) - _MEAN) / _DEVIATION

    def probability(self, preference: float) -> float:
        return sigmoid(_DEVIATION * preference)


class ImageRewardOptions(QueryOptions):
    """Keys of the query in ``imagereward:FOLDER?tokenizer=T``."""

    tokenizer: str | None = Field(None, description="folder or hub name of the tokenizer, where it is not in FOLDER")


def open_imagereward(rest: str) -> ImageReward:
    """``imagereward:FOLDER``: the published weights as ``imagereward.safetensors`` in it, BERT's tokenizer beside them.

    Raises:
        UserError: one of them is missing or cannot be read.
    """
    where = f"judge imagereward:{rest}"
    folder, values = split_query(rest, where)
    options = read_options(ImageRewardOptions, values, where)
    path = Path(folder or ".").expanduser() / FILE
    if not folder or not path.is_file():
        what = f"there is no {path}" if folder else "needs a folder"
        fix = f"save the tensors of ImageReward.pt as {FILE}, which docs/images.md shows; a pickle is not read"
        raise UserError(what, where=where, fix=fix)
    tensors = read_tensors(path)
    parts = {name.removeprefix("blip."): tensor for name, tensor in tensors.items() if name.startswith("blip.")}
    blip = Blip(parts, _tokenizer(options.tokenizer or str(path.parent)), _LONGEST, str(path))
    layers = {name: tensor for name, tensor in tensors.items() if name.startswith("mlp.")}
    return ImageReward(blip, LinearHead.of(layers, blip.width, str(path)), f"imagereward:{rest}")


def _tokenizer(model: str) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(Path(model).expanduser()))
    except (OSError, ValueError, ImportError) as error:
        fix = "write imagereward:FOLDER?tokenizer=bert-base-uncased, or the folder where that lies"
        raise UserError("no tokenizer can be loaded from there", where=model, fix=fix) from error
