"""Which of four languages a text is in, by counting function words."""

from __future__ import annotations

from rather.worlds.instructions.text import folded_words

_FUNCTION_WORDS = {
    "English": "the and of to in is are that it for with you was this have be on as they not from your can or an",
    "Spanish": "el los las de que y es en un una con para por del se no lo su al como más son está muy pero o tu",
    "French": "le les des et est un une dans pour que qui de du au avec sur pas ne ce il elle sont plus ou à vous",
    "German": "der die das und ist ein eine in zu mit den von für auf nicht sich es sie ich wir auch sind dem oder im",
}
LANGUAGES = tuple(_FUNCTION_WORDS)
_SETS = {name: frozenset(listed.split()) for name, listed in _FUNCTION_WORDS.items()}
_SHARED = {"la": ("Spanish", "French")}


def language(text: str) -> str | None:
    """The language with most function words; ``None`` when fewer than two are found or two languages tie."""
    found = folded_words(text)
    counts = {name: sum(word in known for word in found) for name, known in _SETS.items()}
    for word, names in _SHARED.items():
        for name in names:
            counts[name] += found.count(word)
    best, second = sorted(counts.values(), reverse=True)[:2]
    if best < 2 or best == second:
        return None
    return max(counts, key=counts.__getitem__)
