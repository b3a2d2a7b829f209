"""The world of annotations as preference pairs, and as held-out messages with a check."""

from __future__ import annotations

import random
from collections.abc import Mapping

from pydantic import Field

from rather.data.annotations import parse
from rather.data.hard_negatives import Confusion, HardNegatives, written_pair
from rather.data.types import Comparison, Edge, Source
from rather.worlds.annotations.messages import Message, Split, compose
from rather.worlds.annotations.metric import tally
from rather.worlds.annotations.phrases import CODEBOOK
from rather.worlds.catalog import AnswerCheck
from rather.worlds.query import QueryOptions, read_options

_CHECKED, _LONGEST_ANSWER = 32, 160  # held-out messages that are answered; tokens of an answer


class AnnotationsOptions(QueryOptions):
    pairs: int = Field(600, ge=1, le=100_000, description="number of pairs")
    flip: float = Field(0.0, ge=0, lt=0.5, description="share of pairs whose label is wrong")
    split: Split = Field("train", description="train or eval; the two share no message")
    seed: int = Field(0, ge=0, description="of messages and negatives")


def neighbours() -> Confusion:
    """Confusions of a model that knows the world roughly: sub-codes of a code with each other, codes with the next."""
    codes = list(CODEBOOK.subcodes)
    of_codes: dict[str, Mapping[str, float]] = {}
    of_subcodes: dict[str, Mapping[str, float]] = {}
    for code, following in zip(codes, [*codes[1:], codes[0]], strict=True):
        of_codes[code] = {other: 3.0 if other == following else 1.0 for other in codes}
        for subcode in CODEBOOK.subcodes[code]:
            of_subcodes[subcode] = dict.fromkeys(CODEBOOK.subcodes[code], 1.0)
    return Confusion(of_codes, of_subcodes)


def load_query(values: dict[str, str], where: str) -> list[Comparison]:
    """The pairs of ``world:annotations?...``."""
    return load_pairs(read_options(AnnotationsOptions, values, where))


def load_pairs(options: AnnotationsOptions) -> list[Comparison]:
    """Comparisons of gold annotations with a hard negative, gold first.

    ``extras``: ``strategy``, how the negative was made, and ``flipped``. Held-out pairs have right labels.
    """
    draws = random.Random(f"{options.seed}/{options.split}")
    negatives = HardNegatives(CODEBOOK, neighbours())
    rows: list[Comparison] = []
    seen: set[tuple[str, str]] = set()
    while len(rows) < options.pairs:
        message = compose(draws, options.split)
        pair = written_pair(message.gold, negatives, draws)
        flipped = draws.random() < options.flip and options.split == "train"
        if pair is None or (message.text, pair.rejected) in seen:
            continue
        seen.add((message.text, pair.rejected))
        ends = (pair.rejected, pair.chosen) if flipped else (pair.chosen, pair.rejected)
        rows.append(
            Comparison(
                id=f"annotations-{options.split}-{options.seed}-{len(rows)}",
                prompt=({"role": "user", "content": message.prompt},),
                responses=ends,
                edges=(Edge(0, 1),),
                extras={"strategy": pair.strategy, "flipped": flipped},
                source=Source("world:annotations", len(rows) + 1),
            )
        )
    return rows


def held_out() -> list[Message]:
    """The messages that a policy is asked about before and after training."""
    draws = random.Random("check")
    return [compose(draws, "eval") for _ in range(_CHECKED)]


def answer_check() -> AnswerCheck:
    """An answer obeys when it is JSON of the right form and every label and span is right; F1 is pooled over answers."""
    messages = held_out()

    def check(index: int, answer: str) -> dict[str, bool]:
        predicted = parse(answer)
        found = tally(messages[index].gold, predicted or [])
        exact = {name: each.right == each.gold == each.predicted for name, each in found.items()}
        return {"is JSON": predicted is not None, **exact}

    def counts(index: int, answer: str) -> dict[str, tuple[int, int]]:
        found = tally(messages[index].gold, parse(answer) or [])
        rates: dict[str, tuple[int, int]] = {}
        for name, each in found.items():
            rates[f"F1 of {name}"] = (2 * each.right, each.predicted + each.gold)
            rates[f"precision of {name}"] = (each.right, each.predicted)
            rates[f"recall of {name}"] = (each.right, each.gold)
        return rates

    prompts = [({"role": "user", "content": message.prompt},) for message in messages]
    return AnswerCheck(prompts, check, _LONGEST_ANSWER, counts)
