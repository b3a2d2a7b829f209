"""Comparisons back into rows, in the formats that every trainer reads."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rather.data.types import Comparison, Prompt, Response
from rather.errors import UserError


def to_row(comparison: Comparison) -> dict[str, Any]:
    """A row that ``load`` reads back as the same comparison with the same id.

    A pair becomes ``prompt, chosen, rejected``, one winner over all others the same with a list, any other order a
    ranking with scores or ranks, unpaired feedback ``prompt, completion, label``, and a single answer
    ``prompt, completion``.

    Raises:
        UserError: it holds what JSON text cannot (images as bytes), or an order that no ranking has.
    """
    try:
        row = {**comparison.extras, "id": comparison.id, **_content(comparison), **_optional(comparison)}
        json.dumps(row)
    except (TypeError, ValueError) as error:
        fix = "only text and paths can be written"
        raise UserError(f"cannot be written as JSON: {error}", where=str(comparison.source), fix=fix) from None
    return row


def _content(comparison: Comparison) -> dict[str, Any]:
    chat = not isinstance(comparison.prompt, str)
    answers = [_response(response, chat) for response in comparison.responses]
    row: dict[str, Any] = {"prompt": _turns(comparison.prompt)}
    order = {(edge.winner, edge.loser) for edge in comparison.edges}
    if comparison.desirable:
        return row | {"completion": answers[0], "label": comparison.desirable[0]}
    if not order:
        if not answers:
            return row
        return row | {"completion": answers[0]} if comparison.prompt else {"text": answers[0]}
    if order == {(0, 1)} and len(answers) == 2:
        scores = dict(zip(("score_chosen", "score_rejected"), comparison.scores, strict=False))
        return row | {"chosen": answers[0], "rejected": answers[1]} | scores
    if not comparison.scores and order == {(0, i) for i in range(1, len(answers))}:
        return row | {"positive": answers[0], "negatives": answers[1:]}
    ranks = [sum(loser == i for _, loser in order) for i in range(len(answers))]
    if order != {(i, j) for i, a in enumerate(ranks) for j, b in enumerate(ranks) if a < b}:
        raise ValueError("its preferences are not those of a ranking")
    given = {"scores": list(comparison.scores)} if comparison.scores else {"ranks": ranks}
    return row | {"responses": answers} | given


def _optional(comparison: Comparison) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, usual in (("weight", 1.0), ("probability", None), ("margin", None)):
        values = [getattr(edge, name) for edge in comparison.edges]
        if any(value != usual for value in values) and not (name == "margin" and comparison.scores):
            found[name] = values[0] if len(set(values)) == 1 else values
    if comparison.scores and any(e.margin != _gap(comparison, e.winner, e.loser) for e in comparison.edges):
        found["margin"] = [edge.margin for edge in comparison.edges]
    return found


def _gap(comparison: Comparison, winner: int, loser: int) -> float | None:
    gap = comparison.scores[winner] - comparison.scores[loser]
    return gap if gap >= 0 else None


def _turns(prompt: Prompt) -> Any:
    if not isinstance(prompt, str | tuple):
        raise ValueError(f"its prompt is a {type(prompt).__name__}, not text")
    return prompt if isinstance(prompt, str) else [dict(turn) for turn in prompt]


def _response(response: Response, chat: bool) -> Any:
    if isinstance(response, tuple) and all(isinstance(turn, dict) for turn in response):
        return [dict(turn) for turn in response]
    if not isinstance(response, str):
        raise ValueError(f"a response is a {type(response).__name__}, not text")
    return [{"role": "assistant", "content": response}] if chat else response


def write_jsonl(comparisons: Iterable[Comparison], path: Path) -> int:
    """Write rows to ``path``, all of them or none, and give their number.

    Raises:
        UserError: the folder is not there or cannot be written, or a comparison cannot be.
    """
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise UserError(f"cannot be written: {error.strerror}", where=str(path), fix="choose another --out") from None
    count = 0
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            for comparison in comparisons:
                file.write(json.dumps(to_row(comparison), ensure_ascii=False) + "\n")
                count += 1
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return count
