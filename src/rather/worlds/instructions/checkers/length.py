"""How long an answer is."""

from __future__ import annotations

import random
from typing import Any

from rather.worlds.instructions.checkers.base import ANY, OPEN, Args, Checker, Kind, Split, Topic
from rather.worlds.instructions.text import lines, paragraphs, sentences, words

_WORDS = frozenset({"words"})
_SENTENCES = frozenset({"sentences"})


def _count(low: int, high: int, held: tuple[int, ...]) -> Any:
    """Draws ``n`` between ``low`` and ``high``; the numbers in ``held`` occur in held-out prompts alone."""

    def sample(rng: random.Random, split: Split, topic: Topic) -> dict[str, Any]:
        usual = [n for n in range(low, high + 1) if n not in held]
        return {"n": rng.choice(usual if split == "train" or not held else list(held))}

    return sample


def _between(rng: random.Random, split: Split, topic: Topic) -> dict[str, Any]:
    low = rng.choice((5, 8, 10, 12, 15) if split == "train" else (6, 9, 14))
    return {"low": low, "high": low + rng.choice((6, 8, 10) if split == "train" else (7, 9))}


def _filler(n: int) -> str:
    return " ".join(["word"] * n)


def _filled(args: Args) -> str:
    return _filler(args["n"])


def _one_more(args: Args) -> str:
    return _filler(args["n"] + 1)


def _one_fewer(args: Args) -> str:
    return _filler(args["n"] - 1)


CHECKERS = (
    Checker(
        name="max_words",
        check=lambda a, text: 0 < len(words(text)) <= a["n"],
        sample=_count(8, 30, (11, 16, 22)),
        train=(
            "Use at most {n} words.",
            "Your answer must not be longer than {n} words.",
            "Keep it to {n} words or fewer.",
            "Answer in no more than {n} words.",
        ),
        heldout=("The limit is {n} words; stay within it.", "Do not exceed {n} words."),
        passing=_filled,
        failing=_one_more,
        kinds=ANY - frozenset[Kind]({"yesno"}),
        slots=_WORDS,
        weight=2.5,
    ),
    Checker(
        name="fewer_words",
        check=lambda a, text: 0 < len(words(text)) < a["n"],
        sample=_count(8, 30, (13, 18, 24)),
        train=("Use fewer than {n} words.", "Your answer must have less than {n} words.", "Stay under {n} words."),
        heldout=("The number of words must be below {n}.", "Make it shorter than {n} words."),
        passing=_one_fewer,
        failing=_filled,
        kinds=ANY - frozenset[Kind]({"yesno"}),
        slots=_WORDS,
        weight=2.0,
    ),
    Checker(
        name="min_words",
        check=lambda a, text: len(words(text)) >= a["n"],
        sample=_count(12, 32, (15, 21, 27)),
        train=(
            "Use at least {n} words.",
            "Your answer must have {n} words or more.",
            "Write no fewer than {n} words.",
        ),
        heldout=("The answer needs a minimum of {n} words.", "Do not write less than {n} words."),
        passing=_filled,
        failing=_one_fewer,
        slots=_WORDS,
        weight=1.2,
    ),
    Checker(
        name="words_between",
        check=lambda a, text: a["low"] <= len(words(text)) <= a["high"],
        sample=_between,
        train=(
            "Use between {low} and {high} words.",
            "Write at least {low} and at most {high} words.",
            "Your answer should have {low} to {high} words.",
        ),
        heldout=(
            "Keep the length from {low} up to {high} words.",
            "The word count has to lie in the range {low}-{high}.",
        ),
        passing=lambda a: _filler(a["high"]),
        failing=lambda a: _filler(a["high"] + 1),
        slots=_WORDS,
        weight=2.0,
    ),
    Checker(
        name="exact_words",
        check=lambda a, text: len(words(text)) == a["n"],
        sample=_count(2, 6, (4,)),
        train=("Use exactly {n} words.", "Your answer must consist of exactly {n} words."),
        heldout=("Write {n} words, no more and no less.",),
        passing=_filled,
        failing=_one_more,
        kinds=frozenset({"sentence", "open", "name"}),
        slots=frozenset({"words", "end", "keyword"}),
        weight=0.3,
    ),
    Checker(
        name="single_word",
        check=lambda a, text: len(words(text)) == 1,
        sample=lambda rng, split, topic: {},
        train=("Answer with a single word.", "Your whole answer must be one word.", "Reply with exactly one word."),
        heldout=("Give me just one word and nothing more.", "One word is all I want as an answer."),
        passing=lambda a: "Water.",
        failing=lambda a: "Cold water.",
        kinds=frozenset[Kind]({"name"}),
        slots=frozenset({"words", "sentences", "structure", "start", "end", "keyword", "question"}),
        weight=0.6,
    ),
    Checker(
        name="sentences",
        check=lambda a, text: len(sentences(text)) == a["n"],
        sample=_count(1, 3, ()),
        train=(
            "Write exactly {n} sentence{n_s}.",
            "Your answer must consist of exactly {n} sentence{n_s}.",
            "Use exactly {n} sentence{n_s}, not more and not less.",
        ),
        heldout=(
            "I want {n} sentence{n_s}, neither more nor fewer.",
            "The answer has to be exactly {n} sentence{n_s} long.",
        ),
        passing=lambda a: " ".join(["It works."] * a["n"]),
        failing=lambda a: " ".join(["It works."] * (a["n"] + 1)),
        kinds=OPEN,
        slots=_SENTENCES,
        weight=2.5,
    ),
    Checker(
        name="max_sentences",
        check=lambda a, text: 0 < len(sentences(text)) <= a["n"],
        sample=_count(2, 3, ()),
        train=(
            "Use at most {n} sentences.",
            "Write no more than {n} sentences.",
            "Keep it to {n} sentences or fewer.",
        ),
        heldout=("Do not write more than {n} sentences.", "The limit is {n} sentences."),
        passing=lambda a: " ".join(["It works."] * a["n"]),
        failing=lambda a: " ".join(["It works."] * (a["n"] + 1)),
        kinds=OPEN,
        slots=_SENTENCES,
        weight=1.2,
    ),
    Checker(
        name="lines",
        check=lambda a, text: len(lines(text)) == a["n"],
        sample=_count(2, 4, ()),
        train=("Write exactly {n} lines.", "Your answer must have exactly {n} lines of text."),
        heldout=("Spread the answer over exactly {n} lines.",),
        passing=lambda a: "\n".join(["One line."] * a["n"]),
        failing=lambda a: "\n".join(["One line."] * (a["n"] + 1)),
        kinds=OPEN,
        slots=frozenset({"sentences", "structure"}),
        weight=0.5,
    ),
    Checker(
        name="paragraphs",
        check=lambda a, text: len(paragraphs(text)) == a["n"],
        sample=_count(1, 2, ()),
        train=(
            "Write exactly {n} paragraph{n_s}; a blank line separates paragraphs.",
            "Your answer must have exactly {n} paragraph{n_s}, where paragraphs are separated by a blank line.",
        ),
        heldout=("The answer has to consist of exactly {n} paragraph{n_s} (a blank line starts a new one).",),
        passing=lambda a: "\n\n".join(["It works."] * a["n"]),
        failing=lambda a: "\n\n".join(["It works."] * (a["n"] + 1)),
        kinds=OPEN,
        slots=frozenset({"sentences", "structure"}),
        weight=1.2,
    ),
    Checker(
        name="max_characters",
        check=lambda a, text: 0 < len(text.strip()) <= a["n"],
        sample=lambda rng, split, topic: {
            "n": rng.choice((60, 80, 100, 120, 150) if split == "train" else (70, 90, 140))
        },
        train=(
            "Use at most {n} characters, counting spaces.",
            "The whole answer must fit in {n} characters, spaces included.",
        ),
        heldout=("Do not go beyond {n} characters (spaces count too).",),
        passing=lambda a: "x" * a["n"],
        failing=lambda a: "x" * (a["n"] + 1),
        kinds=ANY - {"yesno", "list"},
        slots=frozenset({"words", "sentences"}),
        weight=2.0,
    ),
)
