"""What a judge is: something that says how good responses to a prompt are, one beside another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from rather.data.images import is_image
from rather.data.types import Prompt, Response
from rather.errors import UserError

TRAINED_BY = "rather.json"
"""File beside a run's final weights that names method and options, for whoever interprets the model's scores."""


class Judge:
    """Subclasses give ``score``, and ``group`` where a preference is more than a difference of scores.

    Attributes:
        name: as ``rather.rewards.judge`` takes it.
        judges: ``text``, ``images`` or ``any``: what its responses are.
    """

    name: str
    judges: Literal["text", "images", "any"] = "text"

    def score(self, prompt: Prompt, responses: Sequence[Response]) -> np.ndarray:
        """[n] float64, the better the higher. Levels compare within a prompt only."""
        raise TypeError(f"{type(self).__name__} does not define score")

    def group(self, prompt: Prompt, responses: Sequence[Response]) -> np.ndarray:
        """[n, n] float64 how far each response is preferred to each: antisymmetric, in the unit of the scores."""
        scores = self.score(prompt, responses)
        return scores[:, None] - scores[None, :]

    def compare(self, prompt: Prompt, one: Response, other: Response) -> float:
        """Probability that ``one`` is preferred to ``other``."""
        return self.probability(float(self.group(prompt, [one, other])[0, 1]))

    def probability(self, preference: float) -> float:
        """Probability of an entry of ``group``: 1, 0 or, at a tie, 1/2, for a judge that knows an order only."""
        return 0.5 if preference == 0 else float(preference > 0)


def require_suited(judge: Judge, responses: Sequence[Response]) -> None:
    """
    Raises:
        UserError: the judge reads images and the responses are text, or the other way round.
    """
    images = all(map(is_image, responses))
    if judge.judges not in ("images" if images else "text", "any"):
        what = f"judges {judge.judges}, and the responses are {'images' if images else 'text'}"
        fix = "judges of images: checker:shapes, clip:MODEL, pickscore, hps:MODEL, aesthetic:MODEL, imagereward:FOLDER"
        raise UserError(what, where=f"--judge {judge.name}", fix=fix)


def sigmoid(x: float) -> float:
    """1 / (1 + exp(-x)), without overflow."""
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
