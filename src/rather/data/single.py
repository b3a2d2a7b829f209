"""Rows without a preference between two: marked answers, demonstrations, plain text, prompts."""

from __future__ import annotations

from rather.data import fields
from rather.data.conversations import split_one
from rather.data.pairs import read_prompt
from rather.data.parsed import Parsed, Row, first
from rather.data.refusal import Refused

COMPLETION = "completion|response|output"


def unpaired(row: Row) -> Parsed:
    """One completion, marked desirable or not."""
    completion = fields.response(first(row, COMPLETION), "completion")
    prompt, used = read_prompt(row)
    return Parsed(prompt, (completion,), desirable=(fields.label(row.get("label")),), used=used)


def marked_chat(row: Row) -> Parsed:
    """A conversation whose last answer is marked desirable or not."""
    prompt, answer = split_one(fields.messages(row.get("messages"), "messages"), "messages")
    return Parsed(prompt, (fields.response(answer, "messages"),), desirable=(fields.label(row.get("label")),))


def stepwise(row: Row) -> Parsed:
    """Steps of one solution with a label each: the whole is desirable when every step is."""
    steps = fields.sequence(row.get("completions"), "completions")
    labels = [
        fields.label(value, f"labels[{i}]") for i, value in enumerate(fields.sequence(row.get("labels"), "labels"))
    ]
    if len(steps) != len(labels):
        raise Refused("ragged-lists", f"{len(steps)} completions but {len(labels)} labels")
    texts = [fields.text(step, f"completions[{i}]") for i, step in enumerate(steps)]
    prompt, used = read_prompt(row)
    return Parsed(prompt, (fields.response("\n".join(texts), "completions"),), desirable=(all(labels),), used=used)


def demonstration(row: Row) -> Parsed:
    """A prompt and an answer to imitate."""
    prompt, used = read_prompt(row)
    return Parsed(prompt, (fields.response(first(row, COMPLETION), "completion"),), used=used)


def chat(row: Row) -> Parsed:
    """A conversation whose last answer is the demonstration."""
    name = "messages" if row.get("messages") is not None else "conversations"
    prompt, answer = split_one(fields.messages(row.get(name), name), name)
    return Parsed(prompt, (fields.response(answer, name),))


def text(row: Row) -> Parsed:
    """Plain text: a response to nothing."""
    return Parsed("", (fields.response(row.get("text"), "text"),))


def prompt_only(row: Row) -> Parsed:
    """A prompt without answers, for methods that sample them."""
    prompt, used = read_prompt(row)
    return Parsed(prompt, (), used=used)
