"""Case, punctuation, digits and language."""

from __future__ import annotations

import re
from collections.abc import Callable

from rather.worlds.instructions.checkers.base import ANY, LISTS, OPEN, PROSE, Args, Checker, Kind, no_args
from rather.worlds.instructions.language import LANGUAGES, language
from rather.worlds.instructions.text import words

_QUOTES = (('"', '"'), ("“", "”"))
_SAMPLES = {
    "English": "This is the house that we have, and it is very nice.",
    "Spanish": "La casa es muy bonita y está en el centro de la ciudad.",
    "French": "La maison est très belle et elle est dans le centre de la ville.",
    "German": "Das Haus ist sehr schön und es steht in der Mitte der Stadt.",
}


def _letters(text: str) -> str:
    return "".join(filter(str.isalpha, text))


def _quoted(a: Args, text: str) -> bool:
    text = text.strip()
    return len(words(text)) > 0 and any(text.startswith(left) and text.endswith(right) for left, right in _QUOTES)


def _without(marks: str) -> Callable[[Args, str], bool]:
    def check(a: Args, text: str) -> bool:
        return bool(words(text)) and not any(mark in text for mark in marks)

    return check


CHECKERS = (
    Checker(
        name="lowercase",
        check=lambda a, text: _letters(text) != "" and text == text.lower(),
        sample=no_args,
        train=(
            "Use only lower case letters.",
            "Write everything in lower case, without any capital letters.",
            "No capital letters are allowed.",
        ),
        heldout=("Do not capitalise anything.", "The whole answer has to be in small letters."),
        passing=lambda a: "it works, even on a monday.",
        failing=lambda a: "it works on a Monday.",
        kinds=ANY,
        slots=frozenset({"case"}),
        weight=0.9,
    ),
    Checker(
        name="uppercase",
        check=lambda a, text: _letters(text) != "" and text == text.upper(),
        sample=no_args,
        train=(
            "Use only CAPITAL letters.",
            "Write your whole answer in capital letters.",
            "Write in ALL CAPS, with no lower case letters.",
        ),
        heldout=("Every letter has to be a capital letter.", "ANSWER IN CAPITALS ONLY."),
        passing=lambda a: "IT WORKS, 100%.",
        failing=lambda a: "IT WORKs.",
        kinds=ANY,
        slots=frozenset({"case"}),
        weight=0.7,
    ),
    Checker(
        name="no_commas",
        check=_without(",，"),
        sample=no_args,
        train=(
            "Do not use any commas.",
            "Write it without commas.",
            "Your answer must not contain a comma.",
            "Commas are not allowed.",
        ),
        heldout=("There must be no comma in your answer.", "Get by without a single comma."),
        passing=lambda a: "It works and that is good.",
        failing=lambda a: "It works, and that is good.",
        kinds=ANY,
        slots=frozenset({"comma"}),
        forbids=True,
        weight=3.0,
    ),
    Checker(
        name="no_digits",
        check=lambda a, text: bool(words(text)) and not any(map(str.isdigit, text)),
        sample=no_args,
        train=("Do not use any digits.", "Your answer must not contain digits (0-9)."),
        heldout=("Write without using the digits 0 to 9.",),
        passing=lambda a: "It takes twenty minutes.",
        failing=lambda a: "It takes 10 minutes.",
        kinds=PROSE | LISTS,
        slots=frozenset({"digit"}),
        forbids=True,
        weight=0.6,
    ),
    Checker(
        name="has_number",
        check=lambda a, text: any(map(str.isdigit, text)),
        sample=no_args,
        train=(
            "Include at least one number written in digits.",
            "Your answer must contain a number in digits, such as 7.",
            "Use at least one digit.",
        ),
        heldout=("There has to be a number, written with digits, in your answer.",),
        passing=lambda a: "It takes 10 minutes.",
        failing=lambda a: "It takes twenty minutes.",
        slots=frozenset({"digit"}),
        required=lambda a: "1",
        weight=2.0,
    ),
    Checker(
        name="no_exclamation",
        check=_without("!"),
        sample=no_args,
        train=("Do not use exclamation marks.", "Write it without any exclamation mark."),
        heldout=("There must be no exclamation mark in it.",),
        passing=lambda a: "It works.",
        failing=lambda a: "It works!",
        kinds=ANY,
        slots=frozenset({"exclamation"}),
        forbids=True,
        weight=0.6,
    ),
    Checker(
        name="no_question",
        check=_without("?"),
        sample=no_args,
        train=(
            "Do not ask any questions; no question mark is allowed.",
            "Your answer must not contain a question mark.",
        ),
        heldout=("There must be no question mark in it.",),
        passing=lambda a: "It works.",
        failing=lambda a: "Does it work? Yes.",
        kinds=ANY,
        slots=frozenset({"question"}),
        forbids=True,
        weight=0.4,
    ),
    Checker(
        name="quoted",
        check=_quoted,
        sample=no_args,
        train=(
            "Begin and end your answer with a double quotation mark.",
            "The first and the last character of your answer must be a double quotation mark.",
        ),
        heldout=("Let a double quotation mark be the very first and the very last character.",),
        passing=lambda a: ' "It works." ',
        failing=lambda a: 'It "works".',
        kinds=PROSE | frozenset[Kind]({"name"}),
        slots=frozenset({"start", "end", "structure"}),
        required=lambda a: '"',
        weight=0.8,
    ),
    Checker(
        name="parentheses",
        check=lambda a, text: re.search(r"\([^()]*\w[^()]*\)", text) is not None,
        sample=no_args,
        train=("Include a remark in parentheses.", "Put at least one part of your answer in parentheses (like this)."),
        heldout=("Somewhere in the answer there has to be a remark in parentheses.",),
        passing=lambda a: "It works (most of the time).",
        failing=lambda a: "It works () most of the time.",
        slots=frozenset({"parentheses"}),
        weight=1.0,
    ),
    Checker(
        name="colon",
        check=lambda a, text: ":" in text,
        sample=no_args,
        train=("Use at least one colon.", "Your answer must contain a colon (:)."),
        heldout=("There has to be a colon somewhere in your answer.",),
        passing=lambda a: "One thing: it works.",
        failing=lambda a: "One thing; it works.",
        slots=frozenset({"colon"}),
        weight=1.5,
    ),
    Checker(
        name="language",
        check=lambda a, text: language(text) == a["language"],
        sample=lambda rng, split, topic: {"language": rng.choice(LANGUAGES[1:])},
        train=("Answer in {language}.", "Write your answer in {language}, not in English."),
        heldout=("The language of your answer has to be {language}.",),
        passing=lambda a: _SAMPLES[a["language"]],
        failing=lambda a: _SAMPLES["English" if a["language"] != "English" else "German"],
        kinds=OPEN | frozenset[Kind]({"sentence"}),
        slots=frozenset({"language", "keyword", "avoid", "start", "end"}),
        weight=1.2,
    ),
)
