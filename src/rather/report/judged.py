"""A judge's scores of images for held-out captions, by the model before training and by the trained one.

Both draw each caption from the same noise, so an image of one is judged against its counterpart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rather.data.types import Comparison
from rather.errors import UserError
from rather.policies.base import Policy
from rather.rewards.base import Judge
from rather.stats import student_t, wilson

TOGETHER = 4
"""Captions that are drawn together."""


def require_images(policy: Policy, judge: Judge) -> None:
    """
    Raises:
        UserError: the judge or the policy is none of images.
    """
    if judge.judges == "text":
        raise UserError(
            "judges text; images are scored here", where=f"--judge {judge.name}", fix="clip:MODEL, for one"
        )
    if not callable(getattr(policy, "images", None)):
        fix = "rather sample --judge scores answers of language models"
        raise UserError(f"a {policy.kind} model draws no images", where=f"--judge {judge.name}", fix=fix)


def captions_of(comparisons: Sequence[Comparison], number: int) -> list[str]:
    """The first so many different ones."""
    return list(dict.fromkeys(str(comparison.prompt) for comparison in comparisons))[:number]


def draw(policy: Any, captions: Sequence[str], seed: int, advance: Any) -> list[bytes]:
    """PNG files, one for each caption; for the same captions and seed from the same noise, whatever the weights."""
    import torch

    from rather.policies.pipelines.pixels import png
    from rather.training.references import scoring_mode

    found: list[bytes] = []
    with torch.no_grad(), scoring_mode(policy.network):
        for start in range(0, len(captions), TOGETHER):
            some = captions[start : start + TOGETHER]
            found += map(png, policy.images(some, seed=seed + start))
            advance(len(some))
    return found


def keep(images: Sequence[bytes], folder: Path) -> None:
    """Write images as ``0000.png``, ...; those of an earlier call are removed."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.png"):
        old.unlink()
    for number, image in enumerate(images):
        (folder / f"{number:04d}.png").write_bytes(image)


def judged(
    judge: Judge, captions: Sequence[str], before: Sequence[bytes], after: Sequence[bytes]
) -> dict[str, dict[str, Any]]:
    """``{"before", "after"}``: under ``judged/NAME`` the mean score with a 95% interval by Student's t; after training also
    ``wins/NAME``, the share of captions whose image is preferred to the one before (ties count half), with a 95% Wilson
    interval."""
    pairs = zip(captions, before, after, strict=True)
    scores = np.array([judge.score(caption, pair) for caption, *pair in pairs])
    ahead = scores[:, 1] - scores[:, 0]
    wins = float((ahead > 0).sum() + (ahead == 0).sum() / 2)
    name = judge.name
    found = {side: _mean(scores[:, column], f"judged/{name}") for column, side in enumerate(("before", "after"))}
    share = {f"wins/{name}": wins / len(captions), f"wins/{name}/interval": list(wilson(wins, len(captions)))}
    return {"before": found["before"], "after": found["after"] | share}


def _mean(values: np.ndarray, name: str) -> dict[str, Any]:
    mean, number = float(values.mean()), len(values)
    if number < 2:
        return {name: mean}
    reach = student_t(number - 1) * float(values.std(ddof=1)) / math.sqrt(number)
    return {name: mean, f"{name}/interval": [mean - reach, mean + reach]}
