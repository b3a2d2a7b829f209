"""Dialogues written as one text: ``\\n\\nHuman: ... \\n\\nAssistant: ...``."""

from __future__ import annotations

import re

from rather.data.types import Message

_MARK = re.compile(r"(?:^|\n\n)(Human|Assistant):")


def is_transcript(text: object) -> bool:
    """Whether a text starts as a dialogue of this form."""
    return isinstance(text, str) and bool(re.match(r"\s*(Human|Assistant):", text))


def parse(text: str) -> list[Message]:
    """The turns, their contents stripped of surrounding white space."""
    parts = _MARK.split(text.lstrip() if not text.startswith("\n\n") else text)
    roles = {"Human": "user", "Assistant": "assistant"}
    return [{"role": roles[who], "content": said.strip()} for who, said in zip(parts[1::2], parts[2::2], strict=True)]
