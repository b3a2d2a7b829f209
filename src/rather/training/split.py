"""Training and held-out comparisons: how they are told apart, and whether they overlap."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from rather.data.types import Comparison
from rather.errors import UserError


def _feed(value: Any, into: Any) -> None:
    """Hash a value with its type and length, so that different structures never give the same bytes."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, Mapping):
        into.update(f"m{len(value)}:".encode())
        for key in sorted(value, key=str):
            _feed(str(key), into)
            _feed(value[key], into)
    elif isinstance(value, list | tuple):
        into.update(f"l{len(value)}:".encode())
        for item in value:
            _feed(item, into)
    else:
        data = (
            value
            if isinstance(value, bytes)
            else value.tobytes()
            if isinstance(value, np.ndarray)
            else str(value).encode()
        )
        into.update(f"{type(value).__name__}{len(data)}:".encode() + data)


def _digest(value: Any) -> str:
    hasher = hashlib.blake2b(digest_size=16)
    _feed(value, hasher)
    return hasher.hexdigest()


def prompt_key(comparison: Comparison) -> str:
    """Digest of the prompt."""
    return _digest(comparison.prompt)


def content_key(comparison: Comparison) -> str:
    """Digest of prompt and responses, auxiliary ones too, whatever their order of preference."""
    further = [[item.prompt, item.response] for item in comparison.auxiliary]
    return _digest([comparison.prompt, list(comparison.responses), *([further] if further else [])])


def hold_out(
    comparisons: Sequence[Comparison], fraction: float, most: int
) -> tuple[list[Comparison], list[Comparison]]:
    """Split off a share by prompt, so that no prompt is on both sides.

    Prompts are taken in the order of their digests: the split depends on the prompts alone, not on the order of rows,
    a seed or what else is in the data. Where every prompt has too many comparisons to be held out (a model without a
    condition has one prompt for all), comparisons are split by their whole content. At least one group stays.
    """
    wanted = min(most, round(fraction * len(comparisons)))
    held: set[int] = set()
    for key_of in (prompt_key, content_key):
        if not wanted or held:
            break
        groups: dict[str, list[int]] = defaultdict(list)
        for index, comparison in enumerate(comparisons):
            groups[key_of(comparison)].append(index)
        for key in sorted(groups)[:-1]:
            if len(held) + len(groups[key]) <= wanted:
                held.update(groups[key])
    train = [c for i, c in enumerate(comparisons) if i not in held]
    return train, [c for i, c in enumerate(comparisons) if i in held]


def overlap(train: Sequence[Comparison], held: Sequence[Comparison]) -> tuple[int, int]:
    """How many held-out comparisons are in the training data (in any order of responses), and how many prompts."""
    same = {(prompt_key(c), frozenset(map(_digest, c.responses))) for c in train}
    prompts = {key for key, _ in same}
    found = [(prompt_key(c), frozenset(map(_digest, c.responses))) for c in held]
    return sum(pair in same for pair in found), sum(key in prompts for key, _ in found)


def check_overlap(train: Sequence[Comparison], held: Sequence[Comparison], *, strict: bool) -> str | None:
    """A warning when held-out data is also trained on.

    Raises:
        UserError: all held-out comparisons are in the training data; with ``strict``, any of them.
    """
    examples, prompts = overlap(train, held)
    if not examples and not prompts:
        return None
    fix = "give other held-out data, or leave --eval-data out and a share is held out by prompt"
    if examples == len(held) or (strict and examples):
        what = f"{examples} of {len(held)} held-out comparisons are in the training data too"
        raise UserError(what, where="--eval-data", fix=fix)
    return (
        f"{examples} of {len(held)} held-out comparisons and the prompts of {prompts} are in the training data too: "
        "held-out numbers flatter the model"
    )


def check_ids(comparisons: Sequence[Comparison]) -> None:
    """Raises a ``UserError`` when two comparisons with different content share an id."""
    seen: dict[str, Comparison] = {}
    for comparison in comparisons:
        other = seen.setdefault(comparison.id, comparison)
        if other is not comparison and content_key(other) != content_key(comparison):
            where = f"{comparison.source}" if comparison.source else None
            what = f"the id {comparison.id!r} stands for two different comparisons"
            raise UserError(what, where=where, fix=f"the other is at {other.source}; ids must be unique")
