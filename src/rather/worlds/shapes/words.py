"""Every word that a caption of shapes can have."""

from __future__ import annotations

from rather.worlds.shapes.demand import NUMBERS, OPENINGS
from rather.worlds.shapes.scene import BACKGROUNDS, COLOURS, PLACES, RELATIONS, SHAPES, SIZES, TEXTURES


def _words() -> tuple[str, ...]:
    plurals = [f"{shape}{'es' if shape == 'cross' else 's'}" for shape in SHAPES]
    phrases = (
        *OPENINGS, "there are", "a", "and", "on a background", *NUMBERS, *SIZES, *TEXTURES, *COLOURS, *SHAPES, *plurals,
        *RELATIONS, *PLACES, *BACKGROUNDS,
    )  # fmt: skip
    return tuple(sorted({word for phrase in phrases for word in phrase.split()}))


WORDS = _words()
