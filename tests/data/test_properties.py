"""What holds for any rows."""

from __future__ import annotations

import json
import random
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from rather.data.load import load
from rather.errors import UserError
from rows import jsonl

TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).filter(str.strip)
TURNS = st.lists(TEXT, min_size=1, max_size=3).map(lambda texts: [{"role": "user", "content": text} for text in texts])
ROW = st.fixed_dictionaries(
    {"prompt": TEXT | TURNS, "chosen": TEXT, "rejected": TEXT},
    optional={"weight": st.floats(0, 9), "annotator": TEXT, "id": TEXT},
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["role", "content", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)
COLUMNS = ["id", "prompt", "chosen", "rejected", "responses", "scores", "completion", "label", "messages", "weight"]


def read(rows: list[dict[str, Any]]) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        return load(jsonl(Path(folder) / "rows.jsonl", *rows))


def outcome(rows: list[dict[str, Any]]) -> Any:
    try:
        found = read(rows)
    except UserError as error:
        return error.what
    assert len(found) + len(found.refused) == len(rows)
    return found.fingerprint, [c.id for c in found], [(r.code, r.source.row) for r in found.refused]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(ROW.filter(lambda row: row["chosen"] != row["rejected"]), min_size=1, max_size=6),
    st.randoms(use_true_random=False),
)
def test_ids_do_not_depend_on_the_order_of_rows_or_columns(rows: list[dict[str, Any]], chance: random.Random) -> None:
    unique = {(json.dumps(row["prompt"]), row["chosen"], row["rejected"]): row for row in rows}
    rows = list({row.get("id", key): row for key, row in unique.items()}.values())
    moved = [dict(chance.sample(list(row.items()), len(row))) for row in chance.sample(rows, len(rows))]
    first, second = read(rows), read(moved)
    assert len(first) == len(second) == len(rows)
    assert {c.id: c.responses for c in first} == {c.id: c.responses for c in second}


@settings(max_examples=40, deadline=None)
@given(st.lists(ROW, min_size=1, max_size=6))
def test_reading_is_deterministic_and_loses_no_row(rows: list[dict[str, Any]]) -> None:
    assert outcome(rows) == outcome(rows)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(COLUMNS), ANYTHING, max_size=6), min_size=1, max_size=4))
def test_any_json_is_read_or_refused(rows: list[dict[str, Any]]) -> None:
    outcome(rows)
