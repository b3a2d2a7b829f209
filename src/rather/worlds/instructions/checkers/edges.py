"""How an answer begins and ends."""

from __future__ import annotations

import random
from typing import Any

from rather.worlds.instructions.checkers.base import ANY, OPEN, Args, Checker, Kind, Split, Topic, both, no_args
from rather.worlds.instructions.text import folded_words, lines, words

_STARTS = {
    "train": ("Today", "Well", "People", "Many", "Every", "Sometimes", "Most", "When", "There", "My", "If", "You"),
    "heldout": ("Often", "Some", "Think", "One", "Our"),
}
_LETTERS = {"train": "SATIWMPF", "heldout": "BCHL"}
_ENDS = {
    "train": (
        "that is all",
        "have a nice day",
        "try it today",
        "and that is the point",
        "enjoy it",
        "you will see",
        "it is worth it",
        "thank you for reading",
    ),
    "heldout": ("see you soon", "give it a go", "and that is enough", "take care"),
}
PREAMBLES = ("Sure", "Certainly", "Of course", "Here is", "Here are", "Here's")


def _from(pools: dict[str, tuple[str, ...]] | dict[str, str], key: str) -> Any:
    def sample(rng: random.Random, split: Split, topic: Topic) -> dict[str, Any]:
        return {key: rng.choice(pools[split])}

    return sample


def _begins(text: str, phrase: str) -> bool:
    wanted = folded_words(phrase)
    return folded_words(text)[: len(wanted)] == wanted


def _ends(a: Args, text: str) -> bool:
    wanted = folded_words(a["phrase"])
    return folded_words(text)[-len(wanted) :] == wanted


def _first_letter(a: Args, text: str) -> bool:
    found = words(text)
    return bool(found) and found[0][0].casefold() == a["letter"].casefold()


def _last_mark(text: str) -> str:
    """The last character, looking through closing quotation marks, brackets and emphasis."""
    return text.strip().rstrip("\"'”’)]*_ ")[-1:]


def _postscript(a: Args, text: str) -> bool:
    found = lines(text)
    return len(found) > 1 and found[-1].startswith("P.S.") and len(words(found[-1][4:])) > 0


_ONLY = frozenset({"words", "sentences", "structure", "start", "end", "question", "keyword", "avoid", "language"})

CHECKERS = (
    Checker(
        name="starts_with",
        check=lambda a, text: _begins(text, a["word"]),
        sample=_from(_STARTS, "word"),
        train=(
            'Start with the word "{word}".',
            'The first word of your answer must be "{word}".',
            'Begin your answer with "{word}".',
        ),
        heldout=('Let the answer open with the word "{word}".', 'Your first word has to be "{word}".'),
        passing=lambda a: f"{a['word']}, it works.",
        failing=lambda a: f"It works {a['word']}.",
        slots=frozenset({"start", "case"}),
        required=lambda a: a["word"],
        weight=3.0,
    ),
    Checker(
        name="first_letter",
        check=_first_letter,
        sample=_from(_LETTERS, "letter"),
        train=(
            'The first word of your answer must start with the letter "{letter}".',
            'Begin your answer with a word that starts with the letter "{letter}".',
        ),
        heldout=('Choose a first word that starts with the letter "{letter}".',),
        passing=lambda a: f'"{a["letter"]}xy" is first.',
        failing=lambda a: f"Zebra {a['letter']}.",
        slots=frozenset({"start", "case"}),
        required=lambda a: a["letter"],
        weight=2.0,
    ),
    Checker(
        name="no_preamble",
        check=lambda a, text: bool(words(text)) and not any(_begins(text, opening) for opening in PREAMBLES),
        sample=no_args,
        train=(
            f"Do not begin with any of these: {both(PREAMBLES)}.",
            f"Answer directly: the opening must not be {both(PREAMBLES).replace(' and ', ' or ')}.",
        ),
        heldout=(f"These openings are not allowed at the start: {both(PREAMBLES)}.",),
        passing=lambda a: "Surely this works.",
        failing=lambda a: "Here’s one: it works.",
        kinds=ANY - frozenset[Kind]({"yesno"}),
        slots=frozenset({"start"}),
        weight=0.8,
    ),
    Checker(
        name="ends_with",
        check=_ends,
        sample=_from(_ENDS, "phrase"),
        train=(
            'End with the words "{phrase}".',
            'The last words of your answer must be "{phrase}".',
            'Finish your answer with "{phrase}" and write nothing after it.',
        ),
        heldout=('Close with the words "{phrase}".', 'Let "{phrase}" be the final words.'),
        passing=lambda a: f"It works, {a['phrase']}.",
        failing=lambda a: f"{a['phrase']}, it works.",
        slots=frozenset({"end"}),
        required=lambda a: a["phrase"],
        weight=0.6,
    ),
    Checker(
        name="ends_with_question",
        check=lambda a, text: _last_mark(text) == "?",
        sample=no_args,
        train=(
            "End with a question mark.",
            "The last sentence of your answer must be a question with a question mark.",
            "Finish with a question, so that the answer ends in a question mark.",
        ),
        heldout=(
            "Let the answer close with a question mark.",
            "Your final sentence has to be a question, with a question mark.",
        ),
        passing=lambda a: "It works, right?",
        failing=lambda a: "Right? It works.",
        slots=frozenset({"end", "question"}),
        required=lambda a: "?",
        weight=0.8,
    ),
    Checker(
        name="ends_with_exclamation",
        check=lambda a, text: _last_mark(text) == "!",
        sample=no_args,
        train=("End with an exclamation mark.", "The last sentence of your answer must end with an exclamation mark."),
        heldout=("Let the answer close with an exclamation mark.",),
        passing=lambda a: "It works!",
        failing=lambda a: "Wow! It works.",
        slots=frozenset({"end", "exclamation"}),
        required=lambda a: "!",
        weight=1.0,
    ),
    Checker(
        name="yes_no_first",
        check=lambda a, text: folded_words(text)[:1] in (["yes"], ["no"]),
        sample=no_args,
        train=(
            "Begin with yes or no.",
            "The first word of your answer must be yes or no.",
            "Say yes or no first.",
        ),
        heldout=("Open with a yes or a no.", "Your first word has to be either yes or no."),
        passing=lambda a: "Yes, it works.",
        failing=lambda a: "It works, yes.",
        kinds=frozenset[Kind]({"yesno"}),
        slots=frozenset({"start"}),
        weight=8.0,
    ),
    Checker(
        name="yes_no_only",
        check=lambda a, text: folded_words(text) in (["yes"], ["no"]),
        sample=no_args,
        train=("Answer with yes or no only.", "Reply with nothing but yes or no."),
        heldout=("All I want to read is yes or no.",),
        passing=lambda a: " No. ",
        failing=lambda a: "No, never.",
        kinds=frozenset[Kind]({"yesno"}),
        slots=_ONLY,
        weight=4.0,
    ),
    Checker(
        name="postscript",
        check=_postscript,
        sample=no_args,
        train=('Add a postscript: the last line must start with "P.S."',),
        heldout=('After the answer, put a final line that starts with "P.S."',),
        passing=lambda a: "It works.\n\nP.S. It really does.",
        failing=lambda a: "It works. P.S. It really does.",
        kinds=OPEN,
        slots=frozenset({"end", "structure", "sentences", "case"}),
        required=lambda a: "P.S.",
        weight=0.2,
    ),
)
