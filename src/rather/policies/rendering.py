"""From a comparison to the texts a language model reads: by its chat template, or raw.

A rendered comparison is the text of the prompt, and for each response the text of prompt and response as a whole.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rather.data.types import Comparison, Prompt
from rather.errors import UserError

_SPEAKERS = {"user": "Human", "assistant": "Assistant", "system": "System"}


class Unusable(Exception):
    """This comparison cannot be encoded; the message is the reason that the report counts."""


@dataclass(frozen=True)
class Rendered:
    """Texts of one comparison.

    Attributes:
        prompt: what the model reads before it answers.
        bare: gives the prompt without the words that open the answer; ``None`` for raw text, which has none.
        wholes: prompt and response together, for each response.
        contents: the text of each response where it is one string, else ``None``.
    """

    prompt: str
    bare: Callable[[], str] | None
    wholes: tuple[str, ...]
    contents: tuple[str | None, ...]


def template_mode(tokenizer: Any, template: Literal["auto", "chat", "none"]) -> Literal["chat", "raw"]:
    """Whether text goes through the chat template.

    Raises:
        UserError: ``chat`` is asked for and the tokenizer has no template.
    """
    has = getattr(tokenizer, "chat_template", None) is not None
    if template == "chat" and not has:
        raise UserError(
            "the model's tokenizer has no chat template", where="--template chat", fix="use --template none"
        )
    return "chat" if has and template != "none" else "raw"


def render_chat(tokenizer: Any, comparison: Comparison, ends: Sequence[str]) -> Rendered:
    """Texts by the tokenizer's chat template; a string is one user message, or one assistant message.

    Columns ``tools`` and ``chat_template_kwargs`` of the comparison reach the template.

    Args:
        ends: texts that end a turn; one that closes a response already is taken off, as the template writes it.

    Raises:
        Unusable: the prompt is empty, a response is empty, or the template refuses the conversation.
    """
    messages = [{"role": "user", "content": comparison.prompt}]
    if not isinstance(comparison.prompt, str):
        messages = [_plain(message) for message in comparison.prompt]
    if not messages or comparison.prompt == "":
        raise Unusable("the prompt is empty")
    options = _template_options(comparison)

    def apply(conversation: list[dict[str, Any]], opening: bool) -> str:
        try:
            text = tokenizer.apply_chat_template(
                conversation, tokenize=False, add_generation_prompt=opening, **options
            )
        except Exception as error:  # a template is a program of the model's author and may raise anything
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise Unusable(f"the chat template refuses the conversation: {reason}") from error
        return str(text)

    wholes, contents = [], []
    for response in comparison.responses:
        turns = _response_turns(response, ends)
        wholes.append(apply(messages + turns, False))
        content = turns[0].get("content") if len(turns) == 1 else None
        contents.append(content if isinstance(content, str) else None)
    return Rendered(apply(messages, True), lambda: apply(messages, False), tuple(wholes), tuple(contents))


def render_raw(comparison: Comparison) -> Rendered:
    """Plain concatenation; messages become a ``\\n\\nHuman: ...\\n\\nAssistant:`` transcript.

    Raises:
        Unusable: a response is empty.
    """
    prompt = comparison.prompt
    text = prompt if isinstance(prompt, str) else transcript(prompt) + "\n\nAssistant:"
    wholes, contents = [], []
    for response in comparison.responses:
        if not isinstance(response, str):
            if not response:
                raise Unusable("a response is empty")
            first, *rest = response
            response = f" {_text(first)}" + transcript(rest)
        elif not isinstance(prompt, str) and not response.startswith((" ", "\n")):
            response = f" {response}"
        if not response.strip():
            raise Unusable("a response is empty")
        wholes.append(text + response)
        contents.append(response)
    return Rendered(text, None, tuple(wholes), tuple(contents))


def transcript(messages: Sequence[Mapping[str, Any]]) -> str:
    """Messages as ``\\n\\nHuman: ...\\n\\nAssistant: ...``."""
    return "".join(f"\n\n{_SPEAKERS.get(m['role'], str(m['role']).title())}: {_text(m)}" for m in messages)


def prompt_text(prompt: Prompt) -> str:
    """A prompt as one text."""
    return prompt if isinstance(prompt, str) else transcript(prompt).strip()


def _template_options(comparison: Comparison) -> dict[str, Any]:
    tools = comparison.extras.get("tools")
    tools = json.loads(tools) if isinstance(tools, str) else tools
    options = dict(comparison.extras.get("chat_template_kwargs") or {})
    return options | ({"tools": list(tools)} if tools else {})


def _response_turns(response: Any, ends: Sequence[str]) -> list[dict[str, Any]]:
    turns = [{"role": "assistant", "content": response}] if isinstance(response, str) else [*map(_plain, response)]
    if not turns:
        raise Unusable("a response is empty")
    last = turns[-1]
    if isinstance(last.get("content"), str):
        content = last["content"]
        for end in ends:
            content = content.removesuffix(end)
        turns[-1] = last | {"content": content}
    if len(turns) == 1 and not turns[0].get("tool_calls"):
        content = turns[0].get("content")
        if not content or (isinstance(content, str) and not content.strip()):
            raise Unusable("a response is empty")
    return turns


def _plain(message: Mapping[str, Any]) -> dict[str, Any]:
    # Tables fill absent fields with null, which a template would take for a value.
    return {key: value for key, value in message.items() if value is not None or key == "content"}


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = content or []
    return "".join(str(part.get("text", "")) if isinstance(part, Mapping) else str(part) for part in parts)
