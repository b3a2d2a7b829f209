"""Where a conversation's prompt ends and its answer begins."""

from __future__ import annotations

from collections.abc import Sequence

from rather.data.fields import ANSWER_ROLES
from rather.data.refusal import Refused
from rather.data.types import Message

Turns = tuple[Message, ...]


def answer_start(turns: Sequence[Message]) -> int:
    """Index of the first turn after the last one that is not the assistant's (or a tool's)."""
    start = len(turns)
    while start and turns[start - 1]["role"] in ANSWER_ROLES:
        start -= 1
    return start


def split_one(turns: Turns, name: str) -> tuple[Turns, Turns]:
    """Prompt and answer of one conversation.

    Raises:
        Refused: it does not end with an assistant's turn, or nothing stands before that.
    """
    start = answer_start(turns)
    if start == len(turns):
        raise Refused("not-assistant", f"{name} ends with a turn of {turns[-1]['role']!r}, not of the assistant")
    if start == 0:
        raise Refused("no-prompt", f"{name} has no turn before the assistant's answer")
    return turns[:start], turns[start:]


def split_two(first: Turns, second: Turns) -> tuple[Turns, Turns, Turns]:
    """The prompt that two conversations share, and their two answers.

    The prompt reaches to the last turn that is not the assistant's, and further where both go on alike (a tool call
    that both made), as long as both are left with an assistant's turn.

    Raises:
        Refused: their prompts differ, or one does not end with an assistant's turn.
    """
    (head, _), (other, _) = split_one(first, "chosen"), split_one(second, "rejected")
    if head != other:
        turn = next(
            (i for i, (a, b) in enumerate(zip(head, other, strict=False)) if a != b), min(len(head), len(other))
        )
        raise Refused("prompts-differ", f"the prompts of chosen and rejected differ from turn {turn + 1} on")
    best = at = len(head)
    while at + 1 < min(len(first), len(second)) and first[at] == second[at]:
        at += 1
        if first[at]["role"] == second[at]["role"] == "assistant":
            best = at
    return first[:best], first[best:], second[best:]
