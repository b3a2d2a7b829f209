"""Key phrases of a text by RAKE (Rose et al. 2010), and texts with ever more of them taken out (arXiv 2409.17791).

A text is split at stop words, at . , ; : ! ? and at line breaks into candidate phrases. The score of a word is deg / freq:
freq is how often it stands in candidates, deg the sum of the lengths of the candidates that it stands in; the score of a
phrase is the sum over its words.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection
from functools import cache
from importlib import resources
from math import ceil

from rather.errors import UserError, nearest

_INNER = r"['’\-]"
_WORD = re.compile(rf"[^\W_]+(?:{_INNER}[^\W_]+)*")
_BREAK = re.compile(r"[.,;:!?\n]")
_BETWEEN = r"[^\w.,;:!?\n]+"
"""What may stand between two words of a phrase: anything that is neither a word's nor a break."""


@cache
def stop_words(language: str = "english") -> frozenset[str]:
    """The embedded list of a language.

    Raises:
        UserError: there is none.
    """
    folder = resources.files("rather.data").joinpath("stop_words")
    known = sorted(entry.name.removesuffix(".txt") for entry in folder.iterdir() if entry.name.endswith(".txt"))
    if language not in known:
        raise UserError(f"there is no list of stop words for {language!r}", fix=nearest(language, known))
    return frozenset(folder.joinpath(f"{language}.txt").read_text(encoding="utf-8").split())


def _words(text: str) -> list[str]:
    return [word.replace("’", "'") for word in _WORD.findall(text.lower())]


def candidates(text: str, stops: Collection[str]) -> list[tuple[str, ...]]:
    """Candidate phrases in the order of the text, with repetitions; lower case."""
    found: list[tuple[str, ...]] = []
    for part in _BREAK.split(text):
        phrase: list[str] = []
        for word in [*_words(part), None]:
            if word is not None and word not in stops:
                phrase.append(word)
            elif phrase:
                found.append(tuple(phrase))
                phrase = []
    return found


def word_scores(text: str, stops: Collection[str]) -> dict[str, float]:
    """deg / freq of every word of the candidates."""
    frequency: defaultdict[str, int] = defaultdict(int)
    degree: defaultdict[str, int] = defaultdict(int)
    for phrase in candidates(text, stops):
        for word in phrase:
            frequency[word] += 1
            degree[word] += len(phrase)
    return {word: degree[word] / frequency[word] for word in frequency}


def key_phrases(text: str, stops: Collection[str]) -> list[tuple[str, float]]:
    """Distinct phrases with their scores, best first; equal scores in the order of the text.

    A phrase stands before every phrase that is a part of it, as scores of words are positive.
    """
    score = word_scores(text, stops)
    found = {phrase: sum(score[word] for word in phrase) for phrase in candidates(text, stops)}
    return [(" ".join(phrase), value) for phrase, value in sorted(found.items(), key=lambda item: -item[1])]


def without(text: str, phrases: Collection[str]) -> str:
    """The text without any occurrence of these phrases, one after the other; whole words, any case.

    Runs of white space in a line become one space, and none stays before punctuation or at a line's ends.
    """
    for phrase in phrases:
        words = (re.escape(word).replace("'", "['’]") for word in phrase.split())
        pattern = rf"(?<!\w)(?<!\w{_INNER}){_BETWEEN.join(words)}(?!\w)(?!{_INNER}\w)"
        text = re.sub(pattern, " ", text, flags=re.IGNORECASE)
    text = re.sub(r"[^\S\n]+", " ", text)
    text = re.sub(r" +([.,;:!?])", r"\1", text)
    return re.sub(r"[^\S\n]*\n[^\S\n]*", "\n", text).strip()


def degraded(text: str, levels: int, stops: Collection[str]) -> list[str] | None:
    """``levels`` texts, from the whole one to one without any key phrase; ``None`` for a text that cannot be graded.

    With N distinct phrases level k lacks the best ceil(k N / (levels - 1)) of them, so what is taken out grows with the
    level. A text of fewer than levels - 1 phrases has levels that coincide; one that consists of nothing but key phrases
    would be empty at the last level.
    """
    phrases = [phrase for phrase, _ in key_phrases(text, stops)]
    if len(phrases) < levels - 1:
        return None
    texts = [without(text, phrases[: ceil(level * len(phrases) / (levels - 1))]) for level in range(levels)]
    return texts if _words(texts[-1]) else None
