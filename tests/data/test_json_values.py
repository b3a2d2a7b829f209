"""Where values stand in JSON text."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rather.data.json_values import same_key, values_of

keys = st.text(st.characters(blacklist_characters='"\\', blacklist_categories=("Cs", "Cc")), min_size=1, max_size=5)
leaves = st.one_of(st.text(max_size=8), st.integers(), st.booleans(), st.none())
trees = st.dictionaries(
    keys,
    st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=6
    ),
    max_size=3,
)


def found_in(text: str) -> list[tuple[str, str]]:
    return [(value.key, text[value.start : value.end]) for value in values_of(text)]


def flat(tree: Any, key: str = "") -> list[tuple[str, str]]:
    if isinstance(tree, dict):
        return [entry for name, inner in tree.items() for entry in flat(inner, name)]
    if isinstance(tree, list):
        return [entry for inner in tree for entry in flat(inner, key)]
    said = json.dumps(tree, ensure_ascii=False)
    return [(key, said[1:-1] if isinstance(tree, str) else said)]


@given(trees, st.sampled_from([None, 2]))
def test_all_values_of_valid_json(tree: dict[str, Any], indent: int | None) -> None:
    text = json.dumps(tree, indent=indent, ensure_ascii=False)
    assert found_in(f"Sure: {text} done.") == flat(tree)


def test_escapes_nesting_and_lists() -> None:
    text = '{"results": [{"Code": "A \\"x\\": \\"y\\"", "tags": ["p", "q"], "n": -1.5}], "ok": true}'
    assert found_in(text) == [
        ("Code", 'A \\"x\\": \\"y\\"'),
        ("tags", "p"),
        ("tags", "q"),
        ("n", "-1.5"),
        ("ok", "true"),
    ]


def test_text_that_is_cut_or_no_json() -> None:
    assert found_in('{"Code": "A", "Span": "the riv') == [("Code", "A"), ("Span", "the riv")]
    assert found_in('{"Code": "A", "Span":') == [("Code", "A")]
    assert found_in("Note: this is no JSON, at all: none") == []
    assert found_in(']}{"a": "b"}') == [("a", "b")]
    assert found_in("") == []


def test_keys_are_compared_by_letters_and_digits() -> None:
    assert same_key("Sub-code") == same_key("sub_code") == same_key("Subcode")
    assert same_key("Code") != same_key("Sub-code")
