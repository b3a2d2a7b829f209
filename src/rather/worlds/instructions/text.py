"""What the checkers mean by a word, a sentence, a line and a paragraph."""

from __future__ import annotations

import re

_WORD = re.compile(r"[^\W_]+(?:['’\-][^\W_]+)*")
_ABBREVIATION = re.compile(r"\b(?:Mr|Mrs|Ms|Dr|Prof|St|vs|etc|e\.g|i\.e|a\.m|p\.m|P\.S)\.(?=\s+\S)", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.!?…]+[\"'”’)\]*_]*(?=\s|$)")
_LIST_NUMBER = re.compile(r"(?m)^\s*\d+[.)]\s+")


def words(text: str) -> list[str]:
    """Runs of letters and digits; an inner apostrophe or hyphen does not split (``don't``, ``well-known``)."""
    return _WORD.findall(text)


def folded_words(text: str) -> list[str]:
    """``words`` without regard to case and to the kind of apostrophe."""
    return [word.replace("’", "'").casefold() for word in words(text)]


def sentences(text: str) -> list[str]:
    """Stretches that end in ``.``, ``!``, ``?`` or ``…`` before white space, and a last one without an end mark.

    Common abbreviations, decimal points and the numbers of a list do not end a sentence. A line break alone does not
    either. Stretches without a word do not count.
    """
    text = _LIST_NUMBER.sub("", text)
    text = _ABBREVIATION.sub(lambda match: match.group().replace(".", ""), text)
    parts, start = [], 0
    for end in _SENTENCE_END.finditer(text):
        parts.append(text[start : end.end()].strip())
        start = end.end()
    parts.append(text[start:].strip())
    return [part for part in parts if words(part)]


def lines(text: str) -> list[str]:
    """Lines that are not blank, without surrounding white space."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def paragraphs(text: str) -> list[str]:
    """Blocks of text between blank lines."""
    return [part.strip() for part in re.split(r"\n[^\S\n]*\n", text.replace("\r\n", "\n")) if part.strip()]
