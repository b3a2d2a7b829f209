"""The instruction world as comparisons, and as held-out prompts with a check."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from rather.data.types import Comparison, Edge, Source
from rather.worlds.catalog import AnswerCheck
from rather.worlds.instructions.load import load_pairs, load_prompts
from rather.worlds.instructions.scoring import score
from rather.worlds.query import QueryOptions, read_options

_LONGEST_ANSWER = 64  # tokens; the pairs were sampled under the same limit


class InstructionsOptions(QueryOptions):
    split: Literal["train", "eval"] = Field("train", description="train, or eval: answers to the held-out prompts")


def load_query(values: dict[str, str], where: str) -> list[Comparison]:
    """The pairs of ``world:instructions?...``."""
    rows = load_pairs(read_options(InstructionsOptions, values, where).split)
    return [_comparison(row, Source(where, number)) for number, row in enumerate(rows, 1)]


def _comparison(row: dict[str, Any], source: Source) -> Comparison:
    extras = {"constraints": row["constraints"]}
    return Comparison(
        row["id"], tuple(row["prompt"]), (row["chosen"], row["rejected"]), (Edge(0, 1),), extras=extras, source=source
    )


def answer_check() -> AnswerCheck:
    """The held-out prompts; an answer obeys if each constraint's checker says so."""
    records = load_prompts("heldout")
    prompts = [tuple(record["prompt"]) for record in records]
    return AnswerCheck(prompts, lambda index, answer: score(records[index], answer), _LONGEST_ANSWER)
