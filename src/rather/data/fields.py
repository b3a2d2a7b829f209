"""Reading single fields of a row: messages, responses, numbers. Each raises ``Refused`` with the field's name."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rather.data.refusal import Refused
from rather.data.types import Message, Prompt, Response

_ROLES = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant", "model": "assistant"}
TOOL_ROLES = {"tool", "function", "ipython", "observation"}
ANSWER_ROLES = {"assistant"} | TOOL_ROLES
KNOWN_ROLES = {"system", "developer", "user"} | ANSWER_ROLES


def text(value: Any, name: str) -> str:
    """A text that is not blank and can be written as UTF-8."""
    if not isinstance(value, str):
        raise Refused("wrong-type", f"{name} is a {type(value).__name__}, not a text")
    if not value.strip():
        raise Refused("empty-field", f"{name} is empty")
    return unicode(value, name)


def unicode(value: str, name: str) -> str:
    """A text that can be written as UTF-8."""
    try:
        value.encode()
    except UnicodeEncodeError as error:
        what = f"{name} has half of a surrogate pair at character {error.start + 1}: not a Unicode text"
        raise Refused("not-unicode", what) from None
    return value


def message(value: Any, name: str) -> Message:
    """One turn, with ``role`` and ``content``; ``from`` and ``value`` are read as these."""
    if not isinstance(value, Mapping):
        raise Refused(
            "wrong-type", f"{name} has a turn that is a {type(value).__name__}, not an object with role and content"
        )
    # Tables fill absent fields with null; without them the same turn reads the same from every kind of file.
    turn = {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    if "role" not in turn and "from" in turn:
        turn["role"] = turn.pop("from")
    if "content" not in turn and "value" in turn:
        turn["content"] = turn.pop("value")
    role = turn.get("role")
    if not isinstance(role, str):
        raise Refused("missing-role", f"{name} has a turn without a role")
    turn["role"] = _ROLES.get(role, role)
    if turn["role"] not in KNOWN_ROLES:
        raise Refused(
            "unknown-role", f"{name} has a turn of the unknown role {role!r}; known: {', '.join(sorted(KNOWN_ROLES))}"
        )
    if not isinstance(turn.get("content"), str | list) and not turn.get("tool_calls"):
        raise Refused("wrong-type", f"{name} has a turn of {role!r} without text")
    if isinstance(turn.get("content"), str):
        unicode(turn["content"], name)
    return turn


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [_without_nulls(inner) for inner in value] if isinstance(value, list) else value


def _says(turn: Message) -> bool:
    content = turn.get("content")
    return bool(content.strip() if isinstance(content, str) else content) or bool(turn.get("tool_calls"))


def messages(value: Any, name: str) -> tuple[Message, ...]:
    """A non-empty list of turns."""
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise Refused("wrong-type", f"{name} is a {type(value).__name__}, not a list of messages")
    if not value:
        raise Refused("empty-field", f"{name} is an empty list")
    return tuple(message(turn, name) for turn in value)


def is_messages(value: Any) -> bool:
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str | bytes)
        and bool(value)
        and isinstance(value[0], Mapping)
    )


def prompt(value: Any, name: str = "prompt") -> Prompt:
    """A text, or a conversation that ends before the assistant's turn."""
    if isinstance(value, str):
        return text(value, name)
    if value is None:
        raise Refused("missing-field", f"{name} is missing")
    turns = messages([value] if isinstance(value, Mapping) else value, name)
    if all(turn["role"] in ("system", "developer") for turn in turns):
        raise Refused("no-prompt", f"{name} holds a system turn only")
    if not any(_says(turn) for turn in turns if turn["role"] not in ("system", "developer")):
        raise Refused("empty-field", f"{name} is empty")
    return turns


def response(value: Any, name: str) -> Response:
    """A text, or the turns of an answer; a single assistant turn of plain text is taken as its text."""
    if value is None:
        raise Refused("missing-field", f"{name} is missing")
    if isinstance(value, str):
        return text(value, name)
    turns = messages([value] if isinstance(value, Mapping) else value, name)
    wrong = (
        turns[0]
        if turns[0]["role"] != "assistant"
        else next((t for t in turns if t["role"] not in ANSWER_ROLES), None)
    )
    if wrong is not None:
        raise Refused("not-assistant", f"{name} has to be an assistant's turn, this one is of {wrong['role']!r}")
    if not any(_says(turn) for turn in turns):
        raise Refused("empty-field", f"{name} is empty")
    if len(turns) == 1 and set(turns[0]) == {"role", "content"} and isinstance(turns[0]["content"], str):
        return response(turns[0]["content"], name)
    return turns


def number(value: Any, name: str, low: float = -math.inf, high: float = math.inf) -> float | None:
    """A finite number in a range; ``None`` where the field is absent."""
    if value is None:
        return None
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise Refused("wrong-type", f"{name} is {value!r}, not a number") from None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Refused("wrong-type", f"{name} is a {type(value).__name__}, not a number")
    if isinstance(value, int) and abs(value) > sys.float_info.max:
        raise Refused("not-finite", f"{name} is a whole number beyond the range of floating point")
    if not math.isfinite(value):
        raise Refused("not-finite", f"{name} is {value}")
    if not low <= value <= high:
        raise Refused("out-of-range", f"{name} is {value}, outside {low:g} to {high:g}")
    return float(value)


def needed(value: Any, name: str) -> float:
    """A finite number that has to be there."""
    found = number(value, name)
    if found is None:
        raise Refused("missing-field", f"{name} is missing")
    return found


def label(value: Any, name: str = "label") -> bool:
    """Desirable or not: a boolean, 0/1, +1/-1, or one of a few words."""
    words = {"true": True, "false": False, "1": True, "0": False, "-1": False, "good": True, "bad": False}
    words |= {"desirable": True, "undesirable": False, "chosen": True, "rejected": False}
    if isinstance(value, bool):
        return value
    if value is None:
        raise Refused("missing-field", f"{name} is missing")
    key = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip().lower()
    if key not in words:
        raise Refused("bad-label", f"{name} is {value!r}; it has to be true or false (or 1 and 0)")
    return words[key]


def sequence(value: Any, name: str) -> Sequence[Any]:
    if value is None:
        raise Refused("missing-field", f"{name} is missing")
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise Refused("wrong-type", f"{name} is a {type(value).__name__}, not a list")
    return value


def text_of(value: Any) -> str:
    """Plain text of a prompt or a response, for lengths and display."""
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence):
        return "\n".join(_turn_text(turn) if isinstance(turn, Mapping) else str(turn) for turn in value)
    return str(value)


def _turn_text(turn: Mapping[str, Any]) -> str:
    content = turn["content"] if "content" in turn else turn.get("text", "")
    return content if isinstance(content, str) else text_of(content or "")
