"""Messages composed of annotated passages."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

from rather.data.annotations import Annotation
from rather.worlds.annotations import phrases

Split = Literal["train", "eval"]
_SIZES, _SIZE_WEIGHTS = (1, 2, 3), (0.4, 0.4, 0.2)  # annotations of a message

INSTRUCTION = (
    "Annotate the message to a shop. Answer with JSON alone: "
    '{{"results": [{{"Code": "...", "Sub-code": "...", "Span": "..."}}]}}\n'
    "Codes with sub-codes: {codes}\nMessage: {message}"
)


@dataclass(frozen=True)
class Message:
    """A message and its gold annotations, in the order of the text."""

    text: str
    gold: tuple[Annotation, ...]

    @property
    def prompt(self) -> str:
        """What is asked about it."""
        listed = "; ".join(f"{code} ({', '.join(names)})" for code, names in phrases.CODEBOOK.subcodes.items())
        return INSTRUCTION.format(codes=listed, message=self.text)


def compose(draws: random.Random, split: Split) -> Message:
    """A message of one to three passages with different sub-codes. Splits share no passage, so no message either."""
    size = draws.choices(_SIZES, _SIZE_WEIGHTS)[0]
    item, other = draws.sample(phrases.ITEMS, 2)
    slots = {"item": item, "other": other, "days": draws.randint(2, 12), "weekday": draws.choice(phrases.WEEKDAYS)}
    gold = []
    for code, subcode in draws.sample(list(phrases.CODEBOOK.pairs()), size):
        known = phrases.PHRASES[code][subcode]
        own = known[-phrases.HELD_OUT :] if split == "eval" else known[: -phrases.HELD_OUT]
        gold.append(Annotation(code, subcode, draws.choice(own).format(**slots)))
    parts = [draws.choice(phrases.OPENINGS)]
    for number, annotation in enumerate(gold):
        parts.append(f"{annotation.span}." if number == 0 else f"{draws.choice(phrases.JOINTS)} {annotation.span}.")
    return Message(" ".join(part for part in [*parts, draws.choice(phrases.CLOSINGS)] if part), tuple(gold))
