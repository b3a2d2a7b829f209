"""Reasons for preferences: the prompt that asks for one, and their place in a comparison.

A rationale is a text that says why the chosen response is the better one; column ``rationale`` of the data. The two
responses are called Answer A and Answer B in it. Which of them is A is drawn for each comparison, so that position says
nothing about the verdict; a rationale that speaks of A and B keeps the order it was written for in the column
``rationale_first`` (``chosen`` or ``rejected``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

from rather.data.fields import is_messages, text_of
from rather.data.identity import digest
from rather.data.types import Auxiliary, Comparison, Edge, Prompt, Response
from rather.errors import UserError

TEXT, FIRST = "rationale", "rationale_first"
"""Columns."""

First = Literal["chosen", "rejected"]
Kind = Literal["general", "detailed"]

_QUESTION = "Here is a question with two answers. Which answer is better, and why?"
_WORDS: dict[str, str] = {
    "general": "Explain why in one short sentence, in general terms.",
    "detailed": "Explain why in two or three sentences, and name what exactly in the answers makes the difference.",
}


def drawn_first(identifier: str, seed: int) -> First:
    """Which response is Answer A; a function of the comparison's id and the seed."""
    return "chosen" if digest([FIRST, seed, identifier]) % 2 == 0 else "rejected"


def names(first: First) -> tuple[str, str]:
    """Names of the chosen and of the rejected response."""
    return ("Answer A", "Answer B") if first == "chosen" else ("Answer B", "Answer A")


def verdict_prompt(prompt: Prompt, chosen: Response, rejected: Response, first: First) -> Prompt:
    """One user turn: question, both answers, and which of them is better and why."""
    return _turn([_QUESTION, *_shown(prompt, chosen, rejected, first)])


def judge_prompt(prompt: Prompt, chosen: Response, rejected: Response, first: First, kind: Kind) -> Prompt:
    """The same, told which answer was preferred: what a model is asked to write a rationale from."""
    better, worse = names(first)
    told = f"{better} was preferred to {worse}. {_WORDS[kind]} Call the answers {better} and {worse}."
    return _turn(["Here is a question with two answers.", *_shown(prompt, chosen, rejected, first), told])


def _turn(parts: Sequence[str]) -> Prompt:
    return ({"role": "user", "content": "\n\n".join(parts)},)


def _shown(prompt: Prompt, chosen: Response, rejected: Response, first: First) -> list[str]:
    by_name = dict(zip(names(first), (text_of(chosen), text_of(rejected)), strict=True))
    return [f"Question:\n{_asked(prompt)}", *(f"{name}:\n{by_name[name]}" for name in sorted(by_name))]


def _asked(prompt: Prompt) -> str:
    if not is_messages(prompt) or len(prompt) == 1:
        return text_of(prompt)
    return "\n".join(f"{str(turn['role']).capitalize()}: {text_of([turn])}" for turn in prompt)


def with_rationales(comparisons: Sequence[Comparison], seed: int, *, chosen_first: bool = False) -> list[Comparison]:
    """The comparisons with their rationales as auxiliary responses to verdict prompts, one for each edge that has one.

    Args:
        seed: of the order where no order is stored.
        chosen_first: put the chosen response first where no order is stored, as the data released with
            arXiv 2407.14477 does; position alone then tells the verdict.

    Raises:
        UserError: a rationale is not a text, or it cannot be told which of several edges it is about.
    """
    return [_with_rationale(comparison, seed, chosen_first) for comparison in comparisons]


def _with_rationale(comparison: Comparison, seed: int, chosen_first: bool) -> Comparison:
    found = []
    for group, (edge, text) in enumerate(zip(comparison.edges, _texts(comparison), strict=True)):
        if not text.strip():
            continue
        first = _stored_first(comparison) or ("chosen" if chosen_first else drawn_first(comparison.id, seed))
        ends = (comparison.responses[edge.winner], comparison.responses[edge.loser])
        asked = verdict_prompt(comparison.prompt, *ends, first)
        found.append(Auxiliary("rationale", text.strip(), prompt=asked, group=group))
    return comparison.with_auxiliary([*comparison.auxiliary, *found]) if found else comparison


def _texts(comparison: Comparison) -> list[str]:
    """The rationale of each edge; empty where there is none."""
    value: Any = comparison.extras.get(TEXT)
    if value is None:
        return [""] * len(comparison.edges)
    values = list(value) if isinstance(value, list | tuple) else [value]
    if len(values) != len(comparison.edges):
        what = f"{len(values)} rationales for {len(comparison.edges)} pairs of answers"
        raise UserError(what, where=_where(comparison), fix="give a text for a pair, or a list with one for each pair")
    for text in values:
        if not isinstance(text, str | None):
            raise UserError(f"the rationale is a {type(text).__name__}, not a text", where=_where(comparison))
    return [text or "" for text in values]


def _stored_first(comparison: Comparison) -> First | None:
    value = comparison.extras.get(FIRST)
    if value is None:
        return None
    for known in get_args(First):
        if value == known:
            return known
    raise UserError(f"{FIRST} is {value!r}", where=_where(comparison), fix="give 'chosen' or 'rejected'")


def _where(comparison: Comparison) -> str:
    return str(comparison.source or f"id {comparison.id}")


def with_text(comparison: Comparison, text: str | None, first: First) -> Comparison:
    """The comparison with these two columns."""
    return replace(comparison, extras={**comparison.extras, TEXT: text, FIRST: first})


def one_edge(comparison: Comparison) -> Edge | None:
    """The edge of a pair; ``None`` for anything else."""
    return comparison.edges[0] if len(comparison.edges) == 1 else None
