"""Lists: ranked or scored responses, and one positive with many negatives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rather.data import fields
from rather.data.identity import digest
from rather.data.pairs import CHOSEN, read_prompt
from rather.data.parsed import Parsed, Row, first
from rather.data.refusal import Refused
from rather.data.types import Prompt

RESPONSES = "responses|completions|answers|generations|candidates"
SCORES, RANKS = "scores|ratings|rewards", "ranks|ranking"
_TEXT, _SCORE = "response|completion|text|content|answer|output", "score|overall_score|rating|reward"


def negatives(row: Row) -> Parsed:
    """One positive, many negatives; the prompt is ``prompt``, or a ``history`` of items, one a line."""
    prompt, used = _history(row) if first(row, "prompt|instruction|question") is None else read_prompt(row)
    positive = fields.response(first(row, f"positive|{CHOSEN}"), "positive")
    others = [
        fields.response(value, "negatives") for value in fields.sequence(first(row, "negatives|rejected"), "negatives")
    ]
    if not others:
        raise Refused("empty-field", "there are no negatives")
    if positive in others:
        raise Refused("equal", "the positive is also among the negatives")
    if len({digest(other) for other in others}) < len(others):
        raise Refused("repeated-response", "a negative is there twice")
    return Parsed(prompt, (positive, *others), tuple((0, i + 1) for i in range(len(others))), used=used)


def _history(row: Row) -> tuple[Prompt, frozenset[str]]:
    history = row.get("history")
    if isinstance(history, list) and history and not fields.is_messages(history):
        history = "\n".join(str(item) for item in history)
    return fields.prompt(history, "history"), frozenset({"history"})


def is_rated(values: Any) -> bool:
    """Whether responses are objects that carry their own score or rank."""
    return (
        isinstance(values, Sequence)
        and bool(values)
        and isinstance(values[0], Mapping)
        and any(name in values[0] for name in ("rank", *_SCORE.split("|")))
    )


def ranking(row: Row) -> Parsed:
    """Responses with scores (more is better) or ranks (less is better): an edge for every strictly ordered pair."""
    given = fields.sequence(first(row, RESPONSES), "responses")
    scores, ranks = first(row, SCORES), first(row, RANKS)
    used = frozenset[str]()
    if is_rated(given):
        ranked = "rank" in given[0]
        if any(not isinstance(item, Mapping) for item in given):
            raise Refused("wrong-type", "some responses are objects and some are not")
        if scores is None and ranks is None:
            values = [item.get("rank") if ranked else first(item, _SCORE) for item in given]
            scores, ranks = (None, values) if ranked else (values, None)
        given = [first(item, _TEXT) for item in given]
    key, sign = ("ranks", -1.0) if ranks is not None else ("scores", 1.0)
    values = fields.sequence(ranks if ranks is not None else scores, key)
    if len(values) != len(given):
        raise Refused("ragged-lists", f"{len(given)} responses but {len(values)} {key}")
    if len(given) < 2:
        raise Refused("too-few", "a ranking needs at least two responses")
    responses = tuple(fields.response(value, f"responses[{i}]") for i, value in enumerate(given))
    numbers = [sign * fields.needed(value, f"{key}[{i}]") for i, value in enumerate(values)]
    order = tuple((i, j) for i, a in enumerate(numbers) for j, b in enumerate(numbers) if a > b)
    if not order:
        raise Refused("tied", f"all {key} are equal: nothing is preferred to anything")
    if any(responses[i] == responses[j] for i, j in order):
        raise Refused("equal", f"the same response stands twice with different {key}")
    prompt, also = read_prompt(row)
    return Parsed(prompt, responses, order, scores=tuple(numbers) if sign > 0 else (), used=used | also)
