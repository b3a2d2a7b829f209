"""Prompts composed of a topic, a task and one to three constraints.

Held-out prompts share no topic, no task wording, no instruction wording and no mix of constraints with training
prompts (the single constraint is a mix too). Only the checkers themselves are the same.
"""

from __future__ import annotations

import random
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rather.worlds.instructions.checkers.base import Args, Checker, Kind, Split, Topic
from rather.worlds.instructions.checkers.registry import CHECKERS, compatible
from rather.worlds.instructions.topics import TASKS, TOPICS

DEFAULT_SEED = 2024
_KINDS: dict[Kind, float] = {"sentence": 4, "open": 5, "list": 2, "name": 1.2, "yesno": 1}
_SIZES = (1, 2, 3)
_SIZE_WEIGHTS = (0.45, 0.4, 0.15)
_COMMON_MIX = 4  # a mix may occur so often, and a little more often as prompts grow in number
_SALT = 19  # chosen so that no single checker dominates the held-out prompts
_HELDOUT_SHARE = 4  # one mix of constraints in so many is kept for held-out prompts


@dataclass(frozen=True)
class Instruction:
    """One prompt with what its answers have to obey.

    Attributes:
        id: stable for a seed.
        text: the user's message.
        constraints: ``(checker name, arguments)``.
        topic: its name.
    """

    id: str
    text: str
    constraints: tuple[tuple[str, Args], ...]
    split: Split
    topic: str
    kind: Kind

    @property
    def mix(self) -> str:
        return mix(name for name, _ in self.constraints)

    def record(self) -> dict[str, Any]:
        """JSON-able: ``id``, ``prompt`` (messages), ``constraints`` (lists of name and arguments), ``split``, ..."""
        return {
            "id": self.id,
            "prompt": [{"role": "user", "content": self.text}],
            "constraints": [[name, dict(args)] for name, args in self.constraints],
            "split": self.split,
            "topic": self.topic,
            "kind": self.kind,
        }


def mix(names: Iterable[str]) -> str:
    """The names in order, joined: which constraints a prompt has."""
    return "+".join(sorted(names))


def mix_split(names: Iterable[str]) -> Split:
    """Which split a mix of constraints belongs to; a function of the names alone.

    A rare constraint on its own is for training, or training might never meet it.
    """
    names = list(names)
    if len(names) == 1 and CHECKERS[names[0]].weight < 0.7:
        return "train"
    return "heldout" if zlib.crc32(f"{_SALT} {mix(names)}".encode()) % _HELDOUT_SHARE == 0 else "train"


def compose(split: Split, n: int, seed: int = DEFAULT_SEED) -> list[Instruction]:
    """``n`` distinct prompts of a split, a pure function of its arguments.

    Prompts beyond the first ``k`` do not change the first ``k``.
    """
    rng = random.Random(f"instructions {split} {seed}")
    found: dict[str, Instruction] = {}
    mixes: Counter[str] = Counter()
    while len(found) < n:
        kind = rng.choices(list(_KINDS), list(_KINDS.values()))[0]
        topic = rng.choice(TOPICS[split])
        size = rng.choices(_SIZES, _SIZE_WEIGHTS)[0]
        constraints = _constraints(rng, split, kind, topic, size)
        if constraints is None:
            continue
        drawn = mix(name for name, _ in constraints)
        if mixes[drawn] >= _COMMON_MIX + len(found) // 50:  # few checkers stand alone in the held-out mixes
            continue
        text = _render(rng, split, kind, topic, constraints)
        if text not in found:
            name = f"instructions-{split}-{len(found):04d}"
            mixes[drawn] += 1
            found[text] = Instruction(name, text, tuple(constraints), split, topic.name, kind)
    return list(found.values())


def _constraints(
    rng: random.Random, split: Split, kind: Kind, topic: Topic, size: int
) -> list[tuple[str, Args]] | None:
    """A compatible draw whose mix belongs to the split, or ``None`` when this draw fails."""
    pool = [checker for checker in CHECKERS.values() if kind in checker.kinds]
    drawn: list[Checker] = []
    while len(drawn) < size:
        one = rng.choices(pool, [checker.weight for checker in pool])[0]
        if one not in drawn:
            drawn.append(one)
    if mix_split(one.name for one in drawn) != split:
        return None
    constraints: list[tuple[str, Args]] = [(one.name, one.sample(rng, split, topic)) for one in drawn]
    return constraints if compatible(constraints) else None


def _render(
    rng: random.Random, split: Split, kind: Kind, topic: Topic, constraints: Sequence[tuple[str, Args]]
) -> str:
    task = rng.choice(TASKS[split][kind]).format(topic=topic.name)
    told = []
    for name, args in constraints:
        checker = CHECKERS[name]
        told.append(checker.describe(args, split, rng.randrange(len(checker.wordings(split)))))
    if split == "heldout":
        return "\n".join([task, *told]) if rng.random() < 0.5 else " ".join([task, *told])
    if rng.random() < 0.2:
        return " ".join([*told, task])
    return " ".join([task, *told])
