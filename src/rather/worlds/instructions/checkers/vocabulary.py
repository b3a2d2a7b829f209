"""Which words and letters an answer contains."""

from __future__ import annotations

import random
from typing import Any

from rather.worlds.instructions.checkers.base import ANY, PROSE, Args, Checker, Kind, Split, Topic
from rather.worlds.instructions.text import folded_words

_COMMON = {"train": ("the", "very", "and", "can", "it"), "heldout": ("is", "they", "many", "of")}
_LETTERS = {"train": "bkvwj", "heldout": "fgy"}


def _has(text: str, word: str) -> bool:
    return word.casefold() in folded_words(text)


def _keyword(rng: random.Random, split: Split, topic: Topic) -> dict[str, Any]:
    return {"word": rng.choice(topic.keywords)}


def _two_keywords(rng: random.Random, split: Split, topic: Topic) -> dict[str, Any]:
    return {"words": rng.sample(topic.keywords, 2)}


def _avoided(rng: random.Random, split: Split, topic: Topic) -> dict[str, Any]:
    if rng.random() < 0.5:
        return {"words": [topic.word]}
    pool = (*topic.keywords[:2], *_COMMON[split])
    return {"words": rng.sample(pool, rng.choice((1, 1, 2)))}


def _letter(rng: random.Random, split: Split, topic: Topic) -> dict[str, Any]:
    return {"letter": rng.choice(_LETTERS[split])}


def _times(a: Args, text: str) -> bool:
    return folded_words(text).count(a["word"].casefold()) >= a["n"]


CHECKERS = (
    Checker(
        name="contains",
        check=lambda a, text: _has(text, a["word"]),
        sample=_keyword,
        train=(
            'Use the word "{word}".',
            'Your answer must contain the word "{word}".',
            'Include the word "{word}" somewhere.',
            'Make sure that the word "{word}" appears.',
        ),
        heldout=('Work the word "{word}" into your answer.', 'The word "{word}" has to be part of it.'),
        passing=lambda a: f"There is one {a['word']} here.",
        failing=lambda a: f"There is un{a['word']}ed here.",
        slots=frozenset({"keyword"}),
        required=lambda a: a["word"],
        weight=3.0,
    ),
    Checker(
        name="contains_all",
        check=lambda a, text: all(_has(text, word) for word in a["words"]),
        sample=_two_keywords,
        train=(
            "Use the words {words}.",
            "Your answer must contain both of these words: {words}.",
            "Mention {words}, using exactly these words.",
        ),
        heldout=("Both {words} have to appear as words in your answer.", "Work these two words in: {words}."),
        passing=lambda a: "Here: " + " ".join(a["words"]),
        failing=lambda a: a["words"][0],
        slots=frozenset({"keyword"}),
        required=lambda a: " ".join(a["words"]),
        weight=2.0,
    ),
    Checker(
        name="word_times",
        check=_times,
        sample=lambda rng, split, topic: {"word": topic.word, "n": rng.choice((2, 2, 3))},
        train=(
            'Use the word "{word}" at least {n} times.',
            'The word "{word}" must appear {n} times or more.',
            'Write the word "{word}" no fewer than {n} times.',
        ),
        heldout=('Repeat the word "{word}" so that it appears at least {n} times.',),
        passing=lambda a: " ".join([a["word"]] * a["n"]),
        failing=lambda a: " ".join([a["word"]] * (a["n"] - 1)),
        slots=frozenset({"keyword"}),
        required=lambda a: a["word"],
        weight=1.2,
    ),
    Checker(
        name="avoid",
        check=lambda a, text: bool(folded_words(text)) and not any(_has(text, word) for word in a["words"]),
        sample=_avoided,
        train=(
            "Do not use any of these words: {words}.",
            "Avoid the following in your answer, as whole words: {words}.",
            "Leave out every word on this list: {words}.",
        ),
        heldout=("These are forbidden words: {words}.", "Write it without using the following as words: {words}."),
        passing=lambda a: "Nothing un" + "ish, un".join(a["words"]) + "ish here.",
        failing=lambda a: f"Here we have {a['words'][-1].upper()}.",
        kinds=ANY - frozenset[Kind]({"yesno"}),
        slots=frozenset({"avoid"}),
        forbids=True,
        weight=2.5,
    ),
    Checker(
        name="avoid_letter",
        check=lambda a, text: bool(folded_words(text)) and a["letter"] not in text.casefold(),
        sample=_letter,
        train=(
            'Do not use the letter "{letter}" at all.',
            'Your answer must not contain the letter "{letter}".',
            'Choose words without the letter "{letter}".',
        ),
        heldout=('The letter "{letter}" must not occur anywhere.', 'Get by without the letter "{letter}".'),
        passing=lambda a: "Is it nice?",
        failing=lambda a: f"This is {a['letter'].upper()}.",
        kinds=PROSE | frozenset[Kind]({"name"}),
        slots=frozenset({"avoid"}),
        forbids=True,
        weight=1.5,
    ),
)
