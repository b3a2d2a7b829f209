from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rather.worlds.instructions.language import language
from rather.worlds.instructions.text import folded_words, lines, paragraphs, sentences, words


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("   \n ", 0),
        ("... !", 0),
        ("One two, three.", 3),
        ("don't stop", 2),
        ("don’t stop", 2),
        ("a well-known word", 3),
        ("- a\n- b", 2),
        ("3.5 apples", 3),
        ("snake_case", 2),
        ("**bold** text", 2),
    ],
)
def test_words(text: str, count: int) -> None:
    assert len(words(text)) == count


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("...", 0),
        ("No end mark", 1),
        ("One. Two! Three?", 3),
        ("Really?! Yes.", 2),
        ('He said "stop." Then he left.', 2),
        ("It costs 3.5 euros.", 1),
        ("Dr. Who met Mr. Smith.", 1),
        ("Use fruit, e.g. apples.", 1),
        ("Wait... what?", 2),
        ("1. Apples\n2. Pears", 1),
        ("1. Apples.\n2. Pears.", 2),
        ("Bring a tent, etc.", 1),
        ("See example.com for more.", 1),
        ("**It works.** It does.", 2),
    ],
)
def test_sentences(text: str, count: int) -> None:
    assert len(sentences(text)) == count


def test_lines_and_paragraphs() -> None:
    text = "\n a \n\n  \nb\nc\n\n"
    assert lines(text) == ["a", "b", "c"]
    assert paragraphs(text) == ["a", "b\nc"]
    assert paragraphs("a\r\n\r\nb") == ["a", "b"]
    assert paragraphs("a\n\n\n\nb") == ["a", "b"]


@settings(deadline=None)
@given(st.lists(st.from_regex(r"[a-z]{1,8}", fullmatch=True), min_size=1, max_size=20))
def test_words_of_joined_words(parts: list[str]) -> None:
    assert words(" ".join(parts)) == parts
    assert len(words("\n".join(parts))) == len(words(", ".join(parts))) == len(parts)
    assert folded_words(" ".join(parts).upper()) == parts


@settings(deadline=None)
@given(st.integers(1, 12), st.sampled_from([".", "!", "?", "...", '."', "?!"]), st.sampled_from([" ", "\n", "  "]))
def test_sentences_of_joined_sentences(n: int, mark: str, gap: str) -> None:
    assert len(sentences(gap.join([f"It works{mark}"] * n))) == n


@settings(deadline=None)
@given(st.text(max_size=200))
def test_counters_take_any_text(text: str) -> None:
    assert all(words(sentence) for sentence in sentences(text))
    assert all(line == line.strip() and line for line in lines(text))
    assert len(sentences(text)) <= max(1, len(words(text)))
    language(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The cat is on the mat and it is happy.", "English"),
        ("El gato es muy bonito y está en la casa de los niños.", "Spanish"),
        ("Le chat est dans la maison et il est très content avec vous.", "French"),
        ("Die Katze ist im Haus und sie ist nicht müde.", "German"),
        ("Me gusta el café con leche por la mañana.", "Spanish"),
        ("J'aime le pain et les pommes.", "French"),
        ("Ich mag das Brot und die Butter.", "German"),
        ("I like bread with butter for breakfast in the morning.", "English"),
        ("Bread!", None),
        ("", None),
        ("la la la", None),
    ],
)
def test_language(text: str, expected: str | None) -> None:
    assert language(text) == expected
