"""What a caption asks for, in words, and whether a scene obeys.

The six tasks are named after those of GenEval (Ghosh et al. 2023): single object, two objects, counting, colours, position
and attribute binding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from rather.worlds.shapes.scene import (
    BACKGROUNDS,
    COLOURS,
    MOST,
    PLACES,
    RELATIONS,
    SHAPES,
    SIZES,
    TEXTURES,
    Scene,
    Thing,
    pick,
    placed_at,
    random_thing,
    related,
    spread,
)

TASKS = ("single_object", "two_objects", "counting", "colours", "position", "binding")
OPENINGS = ("", "a picture of ", "an image with ", "a drawing of ", "there is ")
NUMBERS = ("", "one", "two", "three", "four")


@dataclass(frozen=True)
class Wanted:
    """An object asked for; what is ``None`` is free."""

    shape: str
    colour: str | None = None
    texture: str | None = None
    size: str | None = None

    @property
    def words(self) -> str:
        return " ".join(word for word in (self.size, self.texture, self.colour, self.shape) if word)

    def checks(self, thing: Thing | None) -> list[bool]:
        """Shape, and what else is asked for, one by one; all wrong where there is no object."""
        names = [name for name in ("shape", "colour", "texture", "size") if getattr(self, name) is not None]
        return [thing is not None and getattr(self, name) == getattr(thing, name) for name in names]


@dataclass(frozen=True)
class Demand:
    """Objects, each ``count`` times, and where: ``relation`` is of the first object to the second, ``place`` of a single
    one."""

    task: str
    wanted: tuple[Wanted, ...]
    count: int = 1
    relation: str | None = None
    place: str | None = None
    background: str | None = None

    @property
    def held_out(self) -> bool:
        """Whether it has a combination that training captions never have: 5 of 40 of colour and shape, and, where the
        colour is free, 3 of 15 of texture and shape."""
        return any(_held_out(wanted) for wanted in self.wanted)

    def obeyed(self, scene: Scene) -> bool:
        """Whether the scene holds exactly the objects asked for, and where they are asked for."""
        return all(self.checks(scene))

    def answered(self, scene: Scene) -> bool:
        """Whether the scene shows what the task is about, as GenEval asks it; sizes, textures, backgrounds and, but for
        counting, further objects are not looked at.

        An object of the shape; two of the shapes; as many of the shape as asked for; one of shape and colour; two of the
        shapes, related as asked for; two of shapes and colours.
        """
        named = [
            [thing for thing in scene.things if thing.shape == want.shape and self._coloured(want, thing)]
            for want in self.wanted
        ]
        if self.task == "counting":
            return len(named[0]) == self.count
        if self.relation is not None:
            return any(self.relation in related(one, other) for one in named[0] for other in named[1])
        return all(named)

    def _coloured(self, want: Wanted, thing: Thing) -> bool:
        return self.task not in ("colours", "binding") or want.colour == thing.colour

    def checks(self, scene: Scene) -> list[bool]:
        """Everything that is asked for, one by one: the number of objects, what is asked of each of them, where they are,
        the background. Objects are taken in the order that makes most of it right; one that is missing is wrong in all."""
        wanted = self.wanted * self.count
        things = [*scene.things, *[None] * (len(wanted) - len(scene.things))]
        best = max((self._checks_of(wanted, order) for order in permutations(things, len(wanted))), key=sum)
        ground = [] if self.background is None else [self.background == scene.background]
        return [len(scene.things) == len(wanted), *best, *ground]

    def _checks_of(self, wanted: Sequence[Wanted], things: Sequence[Thing | None]) -> list[bool]:
        found = [check for want, thing in zip(wanted, things, strict=True) for check in want.checks(thing)]
        if self.place is not None or self.relation is not None:
            known = tuple(thing for thing in things if thing is not None)
            found.append(len(known) == len(wanted) and self._placed(known))
        return found

    def _placed(self, things: tuple[Thing, ...]) -> bool:
        if self.place is not None and placed_at(things[0]) != self.place:
            return False
        return self.relation is None or self.relation in related(things[0], things[1])

    def caption(self, wording: int) -> str:
        """One of ``len(OPENINGS)`` wordings."""
        opening, first = OPENINGS[wording], self.wanted[0]
        if self.count > 1:
            opening = "there are " if opening == "there is " else opening
            text = f"{NUMBERS[self.count]} {first.words}{'es' if first.shape == 'cross' else 's'}"
        else:
            text = (
                f" {self.relation} ".join(f"a {want.words}" for want in self.wanted)
                if self.relation
                else (" and ".join(f"a {want.words}" for want in self.wanted))
            )
        text += f" {self.place}" if self.place else ""
        text += f" on a {self.background} background" if self.background else ""
        return opening + text


def _held_out(wanted: Wanted) -> bool:
    shape = SHAPES.index(wanted.shape)
    if wanted.colour is not None:
        return tuple(COLOURS).index(wanted.colour) == (3 * shape + 1) % len(COLOURS)
    return wanted.texture is not None and shape == (1, 4, 2)[TEXTURES.index(wanted.texture)]


def random_demand(task: str, random: np.random.Generator, held_out: bool = False) -> Demand:
    """A demand of this task, all equally likely, from the training captions or from those held out."""
    while (found := _draw(task, random)).held_out != held_out:
        pass
    return found


def _draw(task: str, random: np.random.Generator) -> Demand:
    def some(values: tuple[str, ...], share: float) -> str | None:
        return pick(values, random) if random.random() < share else None

    shapes = [str(shape) for shape in random.permutation(SHAPES)[:2]]
    colours = [str(colour) for colour in random.permutation(tuple(COLOURS))[:2]]
    ground = some(tuple(BACKGROUNDS), 0.25)
    if task in ("single_object", "two_objects"):
        things = [Wanted(shape, texture=pick(TEXTURES, random), size=some(SIZES, 0.25)) for shape in shapes]
        return Demand(task, tuple(things[: 1 if task == "single_object" else 2]), background=ground)
    if task == "binding":
        pairs = zip(shapes, colours, strict=True)
        things = [Wanted(shape, colour, some(TEXTURES, 0.25), some(SIZES, 0.25)) for shape, colour in pairs]
        return Demand(task, tuple(things), background=ground)
    if task == "counting":
        wanted = Wanted(shapes[0], colours[0], some(TEXTURES, 0.25), some(SIZES, 0.25))
        return Demand(task, (wanted,), count=int(random.integers(2, MOST + 1)), background=ground)
    if task == "colours":
        wanted = Wanted(shapes[0], colours[0], some(TEXTURES, 0.25), some(SIZES, 0.25))
        return Demand(task, (wanted,), place=some(tuple(PLACES), 0.5), background=ground)
    if task == "position":
        things = tuple(Wanted(shape, colour) for shape, colour in zip(shapes, colours, strict=True))
        return Demand(task, things, relation=pick(RELATIONS, random), background=ground)
    raise ValueError(f"there is no task {task!r}")


def scene_for(demand: Demand, random: np.random.Generator) -> Scene:
    """A scene that obeys: what the demand leaves free is drawn at random, equal objects are alike."""
    things = []
    for want in demand.wanted:
        free = random_thing(random)
        things.append(
            Thing(want.colour or free.colour, want.shape, want.texture or free.texture, want.size or free.size)
        )
    ground = demand.background or pick(tuple(BACKGROUNDS), random)
    return Scene(ground, spread(things * demand.count, random, demand.place, demand.relation))
