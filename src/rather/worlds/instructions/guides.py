"""Help for a sampler that is to obey: the first words a rule fixes, the last ones, and characters it forbids.

A small model obeys many rules too rarely to be preferred for it. Sampled under a guide it obeys more of them; the
checkers still decide what an answer is worth.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rather.worlds.instructions.checkers.base import Args


@dataclass(frozen=True)
class Guide:
    """How an answer is helped.

    Attributes:
        prefix: what it begins with.
        suffix: what it ends with, in place of its last full stop.
        forbidden: characters that are not drawn.
    """

    prefix: str = ""
    suffix: str = ""
    forbidden: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.prefix or self.suffix or self.forbidden)

    def __or__(self, other: Guide) -> Guide:
        """Both; where each fixes the same end, the first does."""
        return Guide(self.prefix or other.prefix, self.suffix or other.suffix, self.forbidden | other.forbidden)

    def finish(self, continuation: str) -> str:
        """The answer, of what was sampled behind the prefix."""
        text = (self.prefix + continuation).strip()
        return text.rstrip(" .!?,:;") + self.suffix if self.suffix else text


def _keywords(args: Args) -> str:
    words = args["words"]
    return " and ".join([words[0].capitalize(), *words[1:]])


_GUIDES: Mapping[str, Callable[[Args], Guide]] = {
    "quoted": lambda a: Guide('"', '."', frozenset('"')),
    "starts_with": lambda a: Guide(a["word"]),
    "first_letter": lambda a: Guide(a["letter"]),
    "numbered": lambda a: Guide("1. "),
    "bullets": lambda a: Guide("- "),
    "heading": lambda a: Guide("# "),
    "bold_title": lambda a: Guide("**"),
    "angle_title": lambda a: Guide("<<"),
    "table": lambda a: Guide("| "),
    "json_object": lambda a: Guide('{"' + a["keys"][0] + '": "'),
    "json_list": lambda a: Guide('["'),
    "contains": lambda a: Guide(a["word"].capitalize()),
    "contains_all": lambda a: Guide(_keywords(a)),
    "word_times": lambda a: Guide(a["word"].capitalize()),
    "ends_with": lambda a: Guide(suffix=f", {a['phrase']}."),
    "ends_with_exclamation": lambda a: Guide(suffix="!"),
    "ends_with_question": lambda a: Guide("What", suffix="?"),
    "placeholders": lambda a: Guide(suffix=" [name] [place]."),
    "no_commas": lambda a: Guide(forbidden=frozenset(",，")),
    "no_digits": lambda a: Guide(forbidden=frozenset(string.digits)),
    "no_exclamation": lambda a: Guide(forbidden=frozenset("!")),
    "no_question": lambda a: Guide(forbidden=frozenset("?")),
    "avoid_letter": lambda a: Guide(forbidden=frozenset(a["letter"].lower() + a["letter"].upper())),
}
"""By checker; the earlier entry decides between two that fix the same end."""

_CASES: Mapping[str, tuple[Callable[[str], str], frozenset[str]]] = {
    "lowercase": (str.lower, frozenset(string.ascii_uppercase)),
    "uppercase": (str.upper, frozenset(string.ascii_lowercase)),
}


def guide(record: Mapping[str, Any]) -> Guide:
    """The guide of a prompt record; empty where no rule can be helped."""
    constraints = dict(record["constraints"])
    found = Guide()
    for name, make in _GUIDES.items():
        if name in constraints:
            found |= make(constraints[name])
    if "," in found.forbidden:
        found = Guide(found.prefix, found.suffix.replace(",", ""), found.forbidden)
    for name, (case, forbidden) in _CASES.items():
        if name in constraints:
            found = Guide(case(found.prefix), case(found.suffix), found.forbidden | forbidden)
    return found
