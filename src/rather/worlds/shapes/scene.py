"""What a scene of shapes is made of, and how scenes are drawn at random."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (225, 30, 35),
    "green": (35, 170, 50),
    "blue": (40, 80, 235),
    "yellow": (250, 225, 30),
    "purple": (150, 40, 190),
    "orange": (250, 135, 20),
    "cyan": (40, 215, 225),
    "pink": (250, 120, 190),
}
BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "black": (12, 12, 12),
    "white": (244, 244, 244),
    "grey": (128, 128, 128),
    "beige": (236, 220, 186),
}
UNSEEN: dict[str, tuple[int, int, int]] = {"navy": (14, 18, 72)}
"""Backgrounds kept out of what a base model learns from: winners on them lie outside of its data."""
GROUNDS = BACKGROUNDS | UNSEEN
SHAPES = ("circle", "square", "triangle", "cross", "diamond")
TEXTURES = ("solid", "striped", "dotted")
SIZES = ("small", "large")
RELATIONS = ("left of", "right of", "above", "below")
PLACES = {
    "on the left": (0.25, 0.5),
    "on the right": (0.75, 0.5),
    "at the top": (0.5, 0.25),
    "at the bottom": (0.5, 0.75),
    "in the centre": (0.5, 0.5),
    "in the top left corner": (0.25, 0.25),
    "in the top right corner": (0.75, 0.25),
    "in the bottom left corner": (0.25, 0.75),
    "in the bottom right corner": (0.75, 0.75),
}
MOST = 4
"""Objects in a scene, at most: one for each quarter of the image."""
_QUARTERS = ((0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75))


@dataclass(frozen=True, order=True)
class Thing:
    """One object; ``x`` and ``y`` are its centre as shares of the image's side, from the top left."""

    colour: str
    shape: str
    texture: str
    size: str
    x: float = 0.5
    y: float = 0.5

    @property
    def looks(self) -> tuple[str, str, str, str]:
        """Everything but the place."""
        return self.colour, self.shape, self.texture, self.size


@dataclass(frozen=True)
class Scene:
    """A background and up to four objects, each in a quarter of its own or, if alone, anywhere."""

    background: str
    things: tuple[Thing, ...]

    @property
    def looks(self) -> tuple[str, list[tuple[str, str, str, str]]]:
        """Everything but places, whatever the order of the objects."""
        return self.background, sorted(thing.looks for thing in self.things)


def related(one: Thing, other: Thing) -> set[str]:
    """The relations that hold: the centres differ by at least an eighth of the side in that direction."""
    x, y = other.x - one.x, other.y - one.y
    held = {"left of": x, "right of": -x, "above": y, "below": -y}
    return {name for name, distance in held.items() if distance >= 0.125}


def placed_at(thing: Thing) -> str:
    """The name of the nearest place."""
    return min(PLACES, key=lambda name: (PLACES[name][0] - thing.x) ** 2 + (PLACES[name][1] - thing.y) ** 2)


def pick(values: tuple[str, ...], random: np.random.Generator) -> str:
    """One of the values, all equally likely."""
    return values[int(random.integers(len(values)))]


def random_thing(random: np.random.Generator) -> Thing:
    """All looks equally likely; in the centre."""
    return Thing(pick(tuple(COLOURS), random), pick(SHAPES, random), pick(TEXTURES, random), pick(SIZES, random))


def spread(
    things: list[Thing],
    random: np.random.Generator,
    place: str | None = None,
    relation: str | None = None,
) -> tuple[Thing, ...]:
    """The same objects put where they do not touch, each moved at random by up to 1/32 of the side.

    Args:
        things: one to four.
        random: of places and jitter.
        place: of a single object.
        relation: of the first of two objects to the second.
    """
    if len(things) == 1:
        spots = [PLACES[place or pick(tuple(PLACES), random)]]
    else:
        order = random.permutation(len(_QUARTERS))
        spots = [_QUARTERS[i] for i in order[: len(things)]]
        if relation is not None:
            along, across = random.choice([0.25, 0.75], 1)[0], (0.25, 0.75)
            first, second = across if relation in ("left of", "above") else across[::-1]
            flat = relation in ("left of", "right of")
            spots = [(first, along), (second, along)] if flat else [(along, first), (along, second)]
    jitter = random.integers(-1, 2, (len(things), 2)) / 32
    return tuple(
        replace(thing, x=float(x + dx), y=float(y + dy))
        for thing, (x, y), (dx, dy) in zip(things, spots, jitter, strict=True)
    )


def random_scene(random: np.random.Generator) -> Scene:
    """One to four unrelated objects."""
    things = [random_thing(random) for _ in range(int(random.integers(1, MOST + 1)))]
    return Scene(pick(tuple(BACKGROUNDS), random), spread(things, random))
