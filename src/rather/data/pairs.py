"""Pairs: explicit prompt, implicit prompt, and the shapes other trainers write them in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rather.data import fields, transcripts
from rather.data.conversations import Turns, split_one, split_two
from rather.data.parsed import PROMPT, Parsed, Row, column, first
from rather.data.refusal import Refused
from rather.data.types import Message, Prompt

CHOSEN, REJECTED = "chosen|chosen_response", "rejected|rejected_response"
_SCORES = (
    ("score_chosen", "score_rejected"),
    ("chosen_score", "rejected_score"),
    ("chosen-rating", "rejected-rating"),
    ("chosen_rating", "rejected_rating"),
)
SHARED_START = "prompt taken from the shared start of two plain texts"


def read_prompt(row: Row) -> tuple[Prompt, frozenset[str]]:
    """The prompt with what other columns add to it: ``input`` of an instruction, ``history`` and ``system``.

    A transcript becomes messages; with a system prompt or a history, a text becomes messages too.
    """
    name = column(row, PROMPT) or "prompt"
    value, used = row.get(name), set[str]()
    if name == "instruction" and isinstance(row.get("input"), str):
        used.add("input")
        value = f"{value}\n{row['input']}" if row["input"].strip() else value
    found = fields.prompt(value, name)
    if isinstance(found, str) and transcripts.opens(found):
        found = transcripts.parse_prompt(found)
    before: list[Message] = []
    if isinstance(system := row.get("system"), str):
        used.add("system")
        before += [{"role": "system", "content": system}] if system.strip() else []
    history = row.get("history")
    if isinstance(history, list) and _is_turn_pairs(history):
        used.add("history")
        for question, answer in history:
            before += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    if before:
        found = (*before, *(({"role": "user", "content": found},) if isinstance(found, str) else found))
    return found, frozenset(used)


def _is_turn_pairs(value: list[Any]) -> bool:
    return all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair) for pair in value
    )


def two(prompt: Prompt, chosen: Any, rejected: Any, **rest: Any) -> Parsed:
    """A pair; with a conversation as prompt, or as one of the answers, the prompt is a conversation."""
    responses = (fields.response(chosen, "chosen"), fields.response(rejected, "rejected"))
    if responses[0] == responses[1]:
        raise Refused("equal", "chosen and rejected are the same")
    if isinstance(prompt, str) and not all(isinstance(response, str) for response in responses):
        prompt = ({"role": "user", "content": prompt},)
    return Parsed(prompt, responses, ((0, 1),), **rest)


def explicit(row: Row) -> Parsed:
    """prompt, chosen, rejected; chosen and rejected may repeat the prompt's turns."""
    prompt, used = read_prompt(row)
    chosen, rejected = first(row, CHOSEN), first(row, REJECTED)
    scores, score_columns = scores_of(row)
    rest: dict[str, Any] = {"scores": scores, "used": used | score_columns}
    if _both_transcripts(chosen, rejected) and not isinstance(prompt, str):
        chosen, rejected = list(transcripts.parse(chosen)), list(transcripts.parse(rejected))
    if not (fields.is_messages(chosen) and fields.is_messages(rejected)):
        if transcripts.opens(first(row, PROMPT)) and isinstance(chosen, str) and isinstance(rejected, str):
            chosen, rejected = chosen.strip(), rejected.strip()
        return two(prompt, chosen, rejected, **rest)
    a, b = fields.messages(chosen, "chosen"), fields.messages(rejected, "rejected")
    if all(turn["role"] in fields.ANSWER_ROLES for turn in (*a, *b)):
        prompt = ({"role": "user", "content": prompt},) if isinstance(prompt, str) else prompt
        return two(prompt, a, b, **rest)
    head, a, b = split_two(a, b)
    if not _agrees(prompt, head):
        raise Refused("prompts-differ", "chosen and rejected start with another prompt than the row's own")
    if not isinstance(prompt, str) and len(prompt) > len(head):
        head = prompt  # a system turn that the lists do not repeat
    return two(head, a, b, **rest)


def _both_transcripts(chosen: Any, rejected: Any) -> bool:
    return transcripts.is_transcript(chosen) and transcripts.is_transcript(rejected)


def _agrees(prompt: Prompt, head: Turns) -> bool:
    """Whether a prompt column is what the conversations start with: all of it, or one of the user's turns."""
    if isinstance(prompt, str):
        said = [fields.text_of(turn["content"]).strip() for turn in head]
        return prompt.strip() in said or prompt.strip() == "\n".join(said)
    given = tuple(prompt)
    return head[: len(given)] == given or given[-len(head) :] == head or head[-len(given) :] == given


def scores_of(row: Row) -> tuple[tuple[float, ...], frozenset[str]]:
    """Ratings of the chosen and the rejected response, where a row has both, and their columns."""
    for names in _SCORES:
        values = [fields.number(row.get(name), name) for name in names]
        if None not in values:
            return tuple(float(value) for value in values if value is not None), frozenset(names)
    return (), frozenset()


def implicit(row: Row) -> Parsed:
    """chosen and rejected with a shared start: conversations, transcripts, or plain texts."""
    chosen, rejected = row.get("chosen"), row.get("rejected")
    scores, used = scores_of(row)
    rest: dict[str, Any] = {"scores": scores, "used": used}
    for name, value in (("chosen", chosen), ("rejected", rejected)):
        if value is None:
            raise Refused("missing-field", f"{name} is missing")
        if value == [] or (isinstance(value, str) and not value.strip()):
            raise Refused("empty-field", f"{name} is empty")
    if isinstance(chosen, str) and isinstance(rejected, str):
        chosen, rejected = fields.text(chosen, "chosen"), fields.text(rejected, "rejected")
        if chosen == rejected:
            raise Refused("equal", "chosen and rejected are the same")
        if not _both_transcripts(chosen, rejected):
            return _shared_start(chosen, rejected, rest)
        chosen, rejected = transcripts.parse(chosen), transcripts.parse(rejected)
    return two(*split_two(fields.messages(chosen, "chosen"), fields.messages(rejected, "rejected")), **rest)


def _shared_start(chosen: str, rejected: str, rest: dict[str, Any]) -> Parsed:
    """Plain texts: the prompt is their common start, up to the last white space in it."""
    if transcripts.is_transcript(chosen) or transcripts.is_transcript(rejected):
        raise Refused("prompts-differ", "one of chosen and rejected is a Human/Assistant transcript, the other is not")
    shared = chosen[: next((i for i, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b), None)]
    shared = shared[: len(rejected)]
    end = len(shared.rstrip()) if shared[-1:].isspace() else max(shared.rfind(" "), shared.rfind("\n"))
    if end <= 0 or not shared[:end].strip():
        raise Refused("no-prompt", "there is no prompt column, and chosen and rejected have no start in common")
    return two(shared[:end], chosen[end:], rejected[end:], notes=(SHARED_START,), **rest)


def chat_rejected(row: Row) -> Parsed:
    """``messages`` that end with the good answer, and ``rejected_response`` (text) or ``rejected_messages``."""
    turns = fields.messages(row.get("messages"), "messages")
    other = row.get("rejected_messages")
    if other is not None:
        return two(*split_two(turns, fields.messages(other, "rejected_messages")))
    prompt, answer = split_one(turns, "messages")
    return two(prompt, answer, row.get("rejected_response"))


def conversation(row: Row) -> Parsed:
    """``conversations`` that end with the user; ``chosen`` and ``rejected`` are one turn each, ``system`` a text."""
    turns = fields.messages(row.get("conversations"), "conversations")
    used = frozenset[str]()
    if isinstance(system := row.get("system"), str) and system.strip():
        used, turns = frozenset({"system"}), ({"role": "system", "content": system}, *turns)
    return two(turns, row.get("chosen"), row.get("rejected"), used=used)


def is_list(values: Any) -> bool:
    """Whether a field holds several responses rather than the turns of one."""
    return isinstance(values, Sequence) and not isinstance(values, str | bytes) and not fields.is_messages(values)
