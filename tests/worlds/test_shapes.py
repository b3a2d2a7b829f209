"""The world of shapes: images are read back exactly, scores follow what is drawn, and pairs are what was asked for."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest

from rather.errors import UserError
from rather.worlds.catalog import load_world
from rather.worlds.shapes.demand import OPENINGS, TASKS, Demand, Wanted, random_demand, scene_for
from rather.worlds.shapes.pairs import broken
from rather.worlds.shapes.read import read
from rather.worlds.shapes.render import from_bytes, render, to_png
from rather.worlds.shapes.scene import (
    COLOURS,
    RELATIONS,
    SHAPES,
    SIZES,
    TEXTURES,
    UNSEEN,
    Scene,
    Thing,
    placed_at,
    random_scene,
    related,
    spread,
)
from rather.worlds.shapes.score import aesthetic, obeys, prompts, rates

NOISE = 15
"""Standard deviation, of 255."""


@pytest.mark.parametrize("side", [32, 64])
def test_every_object_is_read_back_on_every_background(side: int) -> None:
    random = np.random.default_rng(side)
    looks = [(c, s, t, z) for c in COLOURS for s in SHAPES for t in TEXTURES for z in SIZES]
    for start in range(0, len(looks), 4):
        things = spread([Thing(*look) for look in looks[start : start + 4]], random)
        ground = random_scene(random).background
        found = read(render(Scene(ground, things), side))
        assert found.scene == Scene(ground, tuple(sorted(things)))
        assert (found.blobs, found.overlap) == (0, 1.0)


@pytest.mark.parametrize(("side", "count"), [(32, 2000), (64, 300)])
def test_random_scenes_are_read_back(side: int, count: int) -> None:
    random = np.random.default_rng(side)
    for _ in range(count):
        scene = random_scene(random)
        assert read(render(scene, side)).scene == replace(scene, things=tuple(sorted(scene.things)))


def test_small_noise_changes_nothing() -> None:
    random = np.random.default_rng(2)
    for _ in range(100):
        scene = random_scene(random)
        pixels = render(scene)
        noisy = np.clip(pixels + random.normal(0, NOISE, pixels.shape), 0, 255).round().astype(np.uint8)
        assert read(noisy).scene.looks == scene.looks


def test_blobs_and_noise_are_no_objects() -> None:
    pixels = render(Scene("white", (Thing("red", "circle", "solid", "large", 0.25, 0.25),)))
    pixels[28:31, 4:30] = COLOURS["blue"]  # a bar, which no object looks like
    found = read(pixels)
    assert (len(found.scene.things), found.blobs) == (1, 1)
    demand = Demand("single_object", (Wanted("circle"),))
    assert not obeys(demand, pixels)
    assert obeys(demand, render(found.scene))


@pytest.mark.parametrize("task", TASKS)
def test_a_wrong_attribute_is_noticed(task: str) -> None:
    random = np.random.default_rng(3)
    for _ in range(15):
        demand = random_demand(task, random, held_out=bool(random.integers(2)))
        scene = scene_for(demand, random)
        assert obeys(demand, render(scene))
        assert not obeys(demand, render(broken(demand, scene, random)))


@pytest.mark.parametrize("task", TASKS)
def test_what_a_task_is_about(task: str) -> None:
    """Asked as GenEval asks: what obeys answers it, too, and so does another background, size or texture."""
    random = np.random.default_rng(21)
    for _ in range(100):
        demand = random_demand(task, random)
        scene = scene_for(demand, random)
        assert demand.answered(scene)
        other = Scene("white", tuple(replace(thing, texture="solid", size="small") for thing in scene.things))
        assert demand.answered(other)
        assert not demand.answered(Scene(scene.background, ()))
        if task in ("counting", "colours", "position", "binding"):
            assert not demand.answered(broken(demand, scene, random))
        if task != "counting":
            shape = next(shape for shape in SHAPES if shape not in {want.shape for want in demand.wanted})
            more = (*scene.things, Thing("red", shape, "solid", "small"))
            assert demand.answered(replace(scene, things=more)), "a further object is no mistake"
        without = replace(scene, things=scene.things[1:])
        assert not demand.answered(without)


def test_there_are_more_than_a_hundred_thousand_captions() -> None:
    wanted = [Wanted(s, c, t, z) for s in SHAPES for c in COLOURS for t in TEXTURES for z in SIZES]
    captions = {
        Demand("binding", (one, other)).caption(wording)
        for one in wanted
        for other in wanted
        if one.shape != other.shape and one.colour != other.colour
        for wording in range(3)
    }
    assert len(captions) == 3 * 40 * 28 * 36 == 120_960


def test_captions_read_well() -> None:
    one, other = Wanted("cross", "red"), Wanted("square", "blue", "striped", "small")
    assert Demand("counting", (one,), count=3).caption(4) == "there are three red crosses"
    assert (
        Demand("position", (one, other), relation="above").caption(0)
        == "a red cross above a small striped blue square"
    )
    place = Demand("colours", (one,), place="on the left", background="grey")
    assert place.caption(1) == "a picture of a red cross on the left on a grey background"


def test_relations_are_told_apart() -> None:
    random = np.random.default_rng(4)
    for relation in RELATIONS:
        demand = Demand("position", (Wanted("circle", "red"), Wanted("square", "blue")), relation=relation)
        scene = scene_for(demand, random)
        held = [other for other in RELATIONS if replace(demand, relation=other).obeyed(scene)]
        assert held == [relation]


def test_rates_are_the_mean_over_tasks() -> None:
    random = np.random.default_rng(5)
    asked = [demand for demand, _ in prompts(4)]
    right = [render(scene_for(demand, random)) for demand in asked]
    assert rates(asked, right) == {"overall": 1.0, **dict.fromkeys(TASKS, 1.0)}
    right[:4] = [np.full((32, 32, 3), 244, dtype=np.uint8)] * 4
    found = rates(asked, right)
    assert (found["single_object"], found["overall"]) == (0.0, pytest.approx(5 / 6))
    assert all(demand.held_out for demand in asked)
    assert prompts(4) == prompts(4)


def test_taste_prefers_contrast_centre_and_whole_objects() -> None:
    thing = Thing("red", "circle", "solid", "large")
    plain = aesthetic(render(Scene("white", (thing,))))
    assert plain > aesthetic(render(Scene("white", (replace(thing, x=0.25, y=0.25),))))
    assert plain > aesthetic(render(Scene("grey", (thing,))))
    torn = render(Scene("white", (thing,)))
    torn[10:13, 14:18] = 244
    assert plain > aesthetic(torn)
    assert aesthetic(np.full((32, 32, 3), 244, dtype=np.uint8)) == 0.0


def test_pairs_have_the_asked_flips_and_backgrounds() -> None:
    rows = load_world("world:shapes?pairs=300&flip=0.2&mismatch=0.5")
    flipped = np.array([row.extras["flipped"] for row in rows])
    mismatched = np.array([row.extras["mismatched"] for row in rows])
    assert flipped.mean() == pytest.approx(0.2, abs=4 * 0.0231)
    assert mismatched.mean() == pytest.approx(0.5, abs=4 * 0.0289)
    for row, wrong, unseen in zip(rows, flipped, mismatched, strict=True):
        better = row.responses[int(wrong)]
        assert (read(from_bytes(better)).scene.background in UNSEEN) == unseen
    assert [row.extras["task"] for row in rows[:6]] == list(TASKS)


def test_splits_share_no_caption_and_held_out_labels_are_clean() -> None:
    train = load_world("world:shapes?pairs=120&flip=0.3")
    held = load_world("world:shapes?pairs=120&flip=0.3&split=eval")
    assert not {row.prompt for row in train} & {row.prompt for row in held}
    assert not any(row.extras["flipped"] for row in held)
    assert [row.responses for row in train] == [row.responses for row in load_world("world:shapes?pairs=120&flip=0.3")]


@pytest.mark.parametrize("kind", ["binding", "counting", "aesthetic"])
def test_kinds_of_pairs(kind: str) -> None:
    for row in load_world(f"world:shapes?pairs=12&kind={kind}&size=64"):
        chosen, rejected = (from_bytes(response) for response in row.responses)
        assert chosen.shape == (64, 64, 3)
        if kind == "aesthetic":
            assert aesthetic(chosen) > aesthetic(rejected)
        elif kind == "counting":
            assert len(read(chosen).scene.things) != len(read(rejected).scene.things)
        else:
            one, other = (read(pixels).scene.things for pixels in (chosen, rejected))
            assert {thing.colour for thing in one} == {thing.colour for thing in other}
            assert {(t.shape, t.colour) for t in one} != {(t.shape, t.colour) for t in other}


def test_png_keeps_every_pixel() -> None:
    pixels = render(random_scene(np.random.default_rng(6)))
    assert (from_bytes(to_png(pixels)) == pixels).all()


def test_wrong_uses_are_named() -> None:
    with pytest.raises(UserError, match="size"):
        load_world("world:shapes?size=48")
    with pytest.raises(UserError, match="kind"):
        load_world("world:shapes?kinds=binding")
    with pytest.raises(ValueError, match="32, 32, 3"):
        read(np.zeros((16, 16, 3), dtype=np.uint8))
    with pytest.raises(ValueError, match="no task"):
        random_demand("colors", np.random.default_rng(0))
    assert len({Demand("counting", (Wanted("circle"),)).caption(i) for i in range(len(OPENINGS))}) == len(OPENINGS)


def test_taste_and_another_background_do_not_mix() -> None:
    with pytest.raises(UserError, match="more pleasing"):
        load_world("world:shapes?kind=aesthetic&mismatch=0.5")


def written_out(demand: Demand, scene: Scene) -> bool:
    """Whether some order of the scene's objects gives every one what is asked of it."""
    wanted, things = demand.wanted * demand.count, scene.things
    if len(things) != len(wanted) or demand.background not in (None, scene.background):
        return False

    def fits(want: Wanted, thing: Thing) -> bool:
        asked = ((want.colour, thing.colour), (want.texture, thing.texture), (want.size, thing.size))
        return want.shape == thing.shape and all(one is None or one == other for one, other in asked)

    def placed(order: tuple[Thing, ...]) -> bool:
        if demand.place is not None and placed_at(order[0]) != demand.place:
            return False
        return demand.relation is None or demand.relation in related(order[0], order[1])

    return any(all(map(fits, wanted, order)) and placed(order) for order in permutations(things))


def test_single_checks_are_all_right_exactly_where_the_scene_obeys() -> None:
    random = np.random.default_rng(5)
    for task in TASKS:
        for _ in range(60):
            demand = random_demand(task, random)
            scene = scene_for(demand, random)
            changed = broken(demand, scene, random)
            for one in (scene, changed, random_scene(random)):
                assert all(demand.checks(one)) == demand.obeyed(one), (demand, one)
                assert demand.obeyed(one) == written_out(demand, one), (demand, one)
            assert len(demand.checks(scene)) == len(demand.checks(Scene(scene.background, ())))
            wrong = demand.checks(changed).count(False)
            assert 1 <= wrong <= len(demand.checks(scene))


def test_single_checks_of_an_example() -> None:
    demand = Demand("binding", (Wanted("circle", "red"), Wanted("square", "blue")), background="white")
    things = (Thing("blue", "circle", "solid", "small"), Thing("red", "square", "solid", "small"))
    assert sorted(demand.checks(Scene("white", things))) == [False, False, True, True, True, True]
    assert demand.checks(Scene("white", ())) == [False, False, False, False, False, True]
