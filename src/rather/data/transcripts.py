"""Dialogues written as one text: ``\\n\\nHuman: ... \\n\\nAssistant: ...``."""

from __future__ import annotations

import re

from rather.data.types import Message

_MARK = re.compile(r"(?:\A|\n\n)(Human|Assistant|System):")
_ROLES = {"Human": "user", "Assistant": "assistant", "System": "system"}


def opens(text: object) -> bool:
    """Whether a text opens with a speaker."""
    return isinstance(text, str) and bool(re.match(r"\s*(Human|System):", text))


def is_transcript(text: object) -> bool:
    """Whether a text is a dialogue of this form: it opens with a speaker, and the assistant speaks in it."""
    return opens(text) and "\n\nAssistant:" in str(text)


def parse(text: str) -> tuple[Message, ...]:
    """The turns, their contents stripped of surrounding white space."""
    parts = _MARK.split(text.lstrip())
    return tuple(
        {"role": _ROLES[who], "content": said.strip()} for who, said in zip(parts[1::2], parts[2::2], strict=True)
    )


def parse_prompt(text: str) -> tuple[Message, ...]:
    """The turns of a transcript that ends with an open ``Assistant:``, without that one."""
    turns = parse(text)
    return turns[:-1] if turns[-1]["role"] == "assistant" and not turns[-1]["content"] else turns
