"""The instruction world as comparisons, and as held-out prompts with a check."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from rather.data.rationales import drawn_first, with_text
from rather.data.types import Comparison, Edge, Source
from rather.worlds.catalog import AnswerCheck
from rather.worlds.instructions.load import load_pairs, load_prompts
from rather.worlds.instructions.rationales import rationale
from rather.worlds.instructions.scoring import score
from rather.worlds.query import QueryOptions, read_options

_LONGEST_ANSWER = 48  # tokens; the pairs were sampled under the same limit


class InstructionsOptions(QueryOptions):
    split: Literal["train", "eval"] = Field("train", description="train, or eval: answers to the held-out prompts")
    rationale: bool = Field(False, description="1: a column rationale that names the rules the rejected answer broke")


def load_query(values: dict[str, str], where: str) -> list[Comparison]:
    """The pairs of ``world:instructions?...``."""
    options = read_options(InstructionsOptions, values, where)
    rows = load_pairs(options.split)
    return [_comparison(row, Source(where, number), options.rationale) for number, row in enumerate(rows, 1)]


def _comparison(row: dict[str, Any], source: Source, with_rationale: bool) -> Comparison:
    extras = {"constraints": row["constraints"]}
    found = Comparison(
        row["id"], tuple(row["prompt"]), (row["chosen"], row["rejected"]), (Edge(0, 1),), extras=extras, source=source
    )
    first = drawn_first(found.id, seed=0)
    return with_text(found, rationale(row, first), first) if with_rationale else found


def answer_check() -> AnswerCheck:
    """The held-out prompts; an answer obeys if each constraint's checker says so."""
    records = load_prompts("heldout")
    prompts = [tuple(record["prompt"]) for record in records]
    return AnswerCheck(prompts, lambda index, answer: score(records[index], answer), _LONGEST_ANSWER)
