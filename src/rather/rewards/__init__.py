"""Judges of responses: trained reward models, programs, language models that are asked, and scores of images.

    judge = rather.rewards.load("runs/reward/model")
    judge.score(prompt, ["one answer", "another"])      [n] the better the higher, within one prompt
    judge.compare(prompt, "one answer", "another")      probability that the first is preferred
    judge.group(prompt, answers)                        [n, n] of each against each

``judge(name)`` opens whatever a name stands for, wherever a judge is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from rather.errors import UserError, nearest

if TYPE_CHECKING:
    from rather.rewards.base import Judge
    from rather.rewards.model import RewardJudge

KINDS = {
    "length": (
        "rather.rewards.programs:open_length",
        "the longer answer (characters); a control, not a judge to train on",
    ),
    "checker": (
        "rather.rewards.programs:open_checker",
        "checker:instructions: share of a prompt's constraints obeyed; checker:shapes: whether an image obeys its caption; "
        "checker:shapes-grades: how far",
    ),
    "python": (
        "rather.rewards.programs:open_python",
        "python:MODULE:FUNCTION: (prompt, responses) to a number for each, by your own code; images are PNG bytes",
    ),
    "likelihood": ("rather.rewards.teacher:open_likelihood", "likelihood:MODEL: mean log-probability under a model"),
    "choice": (
        "rather.rewards.teacher:open_choice",
        "choice:MODEL: which of two answers the model names, over all pairs",
    ),
    "clip": ("rather.rewards.clip:open_clip", "clip:MODEL: 100 max(cos, 0) of an image and its caption"),
    "pickscore": ("rather.rewards.clip:open_pickscore", "pickscore:MODEL: a CLIP fitted to choices between images"),
    "hps": ("rather.rewards.clip:open_hps", "hps:MODEL: the same, HPS in the format of transformers"),
    "aesthetic": (
        "rather.rewards.clip:open_aesthetic",
        "aesthetic:MODEL: a linear head on an image's CLIP embedding, whatever its caption",
    ),
    "imagereward": (
        "rather.rewards.imagereward:open_imagereward",
        "imagereward:FOLDER: a head on BLIP's reading of image and caption, its weights as safetensors",
    ),
}
"""Word before the colon -> (``module:function`` of what stands behind it, help)."""


def judge(name: str) -> Judge:
    """The judge of a name: a folder of a trained reward model (or its run), or one of ``KINDS``.

    Raises:
        UserError: there is no such judge, or what it needs cannot be loaded.
    """
    kind, _, rest = name.partition(":")
    if kind in KINDS:
        module, _, function = KINDS[kind][0].partition(":")
        opener: Callable[[str], Judge] = getattr(import_module(module), function)
        return opener(rest)
    if Path(name).expanduser().is_dir() or "/" in name or name.startswith("reward:"):
        return load(name)
    known = [f"{word}:..." if ":" in text else word for word, (_, text) in KINDS.items()]
    fix = f"{nearest(kind, KINDS)}; or the folder of a model that rather fit-reward has trained ({', '.join(known)})"
    raise UserError(f"there is no judge {name!r}", where="--judge", fix=fix)


def load(folder: str | Path) -> RewardJudge:
    """The judge in a folder that a run with a reward model has written: ``RUN/model``, or ``RUN`` itself.

    Raises:
        UserError: it holds no reward model.
    """
    from rather.rewards.model import open_folder

    return open_folder(Path(str(folder).removeprefix("reward:")).expanduser())
