"""The order of losses by strictness (arXiv 2412.17696).

One structure is stricter than another when no row for it is missing from the other's and no row against the other is
missing from its own. Its rho is then never larger, so any decreasing loss of rho never smaller.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from rather.logic.names import OTHER_ROWS, named, named_with_reference
from rather.logic.structure import Structure


@dataclass(frozen=True)
class Place:
    """Where a structure stands among the sixteen named losses, or among their reference versions.

    Attributes:
        name: its name; ``None`` when it is none of them.
        reference: whether it speaks of the reference, so stands among the reference versions.
        stricter: the nearest named losses that are stricter (larger loss), by name.
        looser: the nearest that are looser (smaller loss).
    """

    name: str | None
    reference: bool
    stricter: tuple[str, ...]
    looser: tuple[str, ...]

    def describe(self) -> str:
        """One sentence."""
        family = " (reference versions)" if self.reference else ""
        told = [f"{self.name}{family}" if self.name else f"none of the sixteen{family}"]
        told += [f"just stricter: {', '.join(self.stricter)}"] if self.stricter else []
        told += [f"just looser: {', '.join(self.looser)}"] if self.looser else []
        if not self.stricter and not self.looser:
            told.append("comparable with none")
        return "; ".join(told)


def place_of(structure: Structure) -> Place:
    """Where a structure stands."""
    family = named_with_reference() if structure.needs_reference else named()
    name = next((name for name, known in family.items() if known.same_as(structure)), None)
    stricter = {name: known for name, known in family.items() if known.stricter_than(structure)}
    looser = {name: known for name, known in family.items() if structure.stricter_than(known)}
    return Place(
        name,
        structure.needs_reference,
        tuple(a for a in stricter if not any(stricter[a].stricter_than(b) for b in stricter.values())),
        tuple(a for a in looser if not any(b.stricter_than(looser[a]) for b in looser.values())),
    )


@cache
def stricter_pairs() -> frozenset[tuple[str, str]]:
    """The pairs (a, b) of names with a stricter than b."""
    return frozenset((a, b) for a, one in named().items() for b, other in named().items() if one.stricter_than(other))


@cache
def hasse_edges() -> frozenset[tuple[str, str]]:
    """The pairs with nothing between them: the edges of a cube of four dimensions."""
    pairs = stricter_pairs()
    return frozenset((a, b) for a, b in pairs if not any((a, c) in pairs and (c, b) in pairs for c in OTHER_ROWS))


def level(structure: Structure) -> int:
    """Steps from the strictest (0) to the loosest (4) of the sixteen."""
    steps: Mapping[str, int] = {"×": 0, "-": 1, "✓×": 1, "✓": 2}
    marks = structure.marks()
    return steps[marks["TT"]] + steps[marks["FF"]]
