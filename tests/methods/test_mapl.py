"""Contrasts of prompts and of margins: published values, identities, and the prompts that they are made of."""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rather.data.load import load
from rather.data.types import Auxiliary, Comparison, Edge
from rather.methods.registry import get
from rather.objectives.contrasts import Contrast
from rather.objectives.scores import Layout, Scores
from rather.worlds.instructions.mixes import augmented, contrasted, length_limit, opposed, with_constraints
from rather.worlds.instructions.separating import Constraint, offers, relations, together
from rather.worlds.instructions.text import words

INTER = (1.0, -1.0, -1.0, 1.0)


def comparison(intra: int = 1, inter: int = 1) -> Comparison:
    """A pair with this many groups of contrasts."""
    items = [
        Auxiliary("intra", "y", prompt=f"intra{group}{sign}", group=group, sign=sign)
        for group in range(intra)
        for sign in (1.0, -1.0)
    ]
    items += [
        Auxiliary("inter", f"y{number}", prompt=f"inter{group}{number // 2}", group=group, sign=sign)
        for group in range(inter)
        for number, sign in enumerate(INTER)
    ]
    return Comparison("a", "p", ("w", "l"), (Edge(0, 1),)).with_auxiliary(items)


def scores(values: list[float]) -> Scores:
    return Scores(torch.tensor(values, dtype=torch.float64).requires_grad_(), torch.arange(len(values)))


def total(method: str, one: Comparison, policy: Scores, reference: Scores | None = None, **options: Any) -> Tensor:
    layout = Layout.of([one], [1] * policy.elements.numel())
    return get(method).objective(**options)(policy, reference, layout).loss(layout.counts())


def test_published_values_of_a_reward_model() -> None:
    policy = scores([1.2, 0.4, 0.9, -0.3, 0.2, 0.5, 1.5, -0.5, 0.8, 0.6])
    one = comparison(intra=2)
    parts = {
        name: total("mapl_rm", one, policy, intra_weight=intra, inter_weight=inter).item()
        for name, intra, inter in (("base", 0, 0), ("intra", 1, 0), ("inter", 0, 1), ("total", 1, 1))
    }
    assert parts["base"] == pytest.approx(0.37110066594778, rel=1e-13)
    assert parts["intra"] - parts["base"] == pytest.approx(0.55881885590328, rel=1e-12)
    assert parts["inter"] - parts["base"] == pytest.approx(0.15297761052607, rel=1e-12)
    assert parts["total"] == pytest.approx(1.0828971323771, rel=1e-13)
    (gradient,) = torch.autograd.grad(total("mapl_rm", one, policy, intra_weight=0), policy.elements)
    expected = [-0.14185106490049, 0.14185106490049, 0.14185106490049, -0.14185106490049]
    assert gradient[-4:].tolist() == pytest.approx(expected, rel=1e-12)


def test_published_values_of_a_policy() -> None:
    policy = scores([-40, -44, -39, -42, -38, -47, -45, -41])
    reference = scores([-41, -43.5, -40, -41, -40, -44, -42, -43])
    one = comparison()
    parts = {
        name: total("mapl", one, policy, reference, intra_weight=intra, inter_weight=inter).item()
        for name, intra, inter in (("base", 0, 0), ("intra", 1, 0), ("inter", 0, 1), ("total", 1, 1))
    }
    assert parts["base"] == pytest.approx(0.62095704778953, rel=1e-13)
    assert parts["intra"] - parts["base"] == pytest.approx(0.59813886938159, rel=1e-12)
    assert parts["inter"] - parts["base"] == pytest.approx(0.31326168751822, rel=1e-12)
    assert parts["total"] == pytest.approx(1.5323576046893, rel=1e-13)


value = st.floats(-50, 50)
quick = settings(max_examples=80, deadline=None)


def of(role: Any, values: list[float], one: Comparison) -> Tensor:
    policy = scores(values)
    layout = Layout.of([one], [1] * len(values))
    return Contrast(role, 1.0, beta=1.0, needs_reference=False)(policy, None, layout).values


@quick
@given(st.tuples(*[value] * 4), st.tuples(*[value] * 4))
def test_differences_of_margins(r: tuple[float, ...], shift: tuple[float, ...]) -> None:
    one = comparison(intra=0)
    a_w, a_l, b_w, b_l = r
    before = of("inter", [0.0, 0.0, *r], one)
    a, b, w, lose = shift
    moved = of("inter", [0.0, 0.0, a_w + a + w, a_l + a + lose, b_w + b + w, b_l + b + lose], one)
    torch.testing.assert_close(moved, before, rtol=1e-9, atol=1e-9)  # r + f(x) + h(y)
    exchanged = of("inter", [0.0, 0.0, b_l, b_w, a_l, a_w], one)  # prompts and responses exchanged together
    torch.testing.assert_close(exchanged, before, rtol=1e-9, atol=1e-9)
    tie = of("inter", [0.0, 0.0, a_w, a_l, a_w, a_l], one)
    assert tie.item() == pytest.approx(math.log(2))
    alone = of("inter", [0.0, 0.0, a_w, a_l, b_w, b_w], one)  # Delta_b = 0: Bradley-Terry on (x_a, y_w, y_l)
    torch.testing.assert_close(alone, -torch.nn.functional.logsigmoid(torch.tensor([a_w - a_l], dtype=torch.float64)))


@quick
@given(value, value, value, value)
def test_two_prompts_of_one_response(w: float, lose: float, of_response: float, of_prompt: float) -> None:
    one = comparison(inter=0)
    before = of("intra", [0.0, 0.0, w, lose], one)
    torch.testing.assert_close(
        of("intra", [0.0, 0.0, w + of_response, lose + of_response], one), before, rtol=1e-9, atol=1e-9
    )
    if abs(of_prompt) > 1e-3 and abs(w - lose) < 20:  # what depends on the prompt does not cancel
        assert abs((of("intra", [0.0, 0.0, w + of_prompt, lose], one) - before).item()) > 1e-13
    assert of("intra", [0.0, 0.0, w, w], one).item() == pytest.approx(math.log(2))


def test_response_conditioned_sets_give_their_own_loss() -> None:
    """One length limit, x against x_l1 given y_w, x_l2 against x given y_l: BT + intra, term by term."""
    pair = Comparison("a", "Say it.", ("one two three four", "one two three four five six"), (Edge(0, 1),))
    one = augmented(pair, 0, intra="response_conditioned", inter=None, most=1)
    r = {"w": 1.2, "l": 0.4, "w_broken": -0.3, "l_obeyed": 0.9}
    values = [r["w"], r["l"]]
    for item in one.auxiliary:
        plain, chosen = item.prompt is None, item.response == pair.responses[0]
        values.append(r[("w" if chosen else "l") + ("" if plain else "_broken" if chosen else "_obeyed")])
    found = total("mapl_rm", one, scores(values), inter_weight=0.0).item()
    log_sigmoid = lambda z: -math.log1p(math.exp(-z))  # noqa: E731
    intra = (log_sigmoid(r["w"] - r["w_broken"]) + log_sigmoid(r["l_obeyed"] - r["l"])) / 2
    assert found == pytest.approx(-log_sigmoid(r["w"] - r["l"]) - intra, rel=1e-12)


def test_as_two_preferences() -> None:
    pair = Comparison("a", "Say it.", ("one two three", "four five six seven eight"), (Edge(0, 1),))
    one = augmented(pair, 3, intra=None, inter="bt", most=2)
    assert [(item.group, item.sign, item.response) for item in one.auxiliary] == [
        (0, 1.0, pair.responses[0]),
        (0, -1.0, pair.responses[1]),
        (1, -1.0, pair.responses[0]),
        (1, 1.0, pair.responses[1]),
    ]
    layout = Layout.of([one], [1] * 6)
    assert layout.counts()["inter"] == 2


class TestRelations:
    TEXT = "one two three four five"
    OBEYED = (Constraint("max_words", {"n": 6}), Constraint("contains", {"word": "three"}))
    BROKEN = (Constraint("max_words", {"n": 3}), Constraint("contains", {"word": "zebra"}))

    def test_by_example(self) -> None:
        assert relations(self.TEXT, self.OBEYED, self.BROKEN) == {"a", "b"}
        assert relations(self.TEXT, self.OBEYED, (self.OBEYED[0], self.BROKEN[1])) == {"a"}
        assert relations(self.TEXT, (self.OBEYED[0], self.BROKEN[1]), self.BROKEN) == {"b"}

    def test_undefined_ones_are_refused(self) -> None:
        assert relations(self.TEXT, self.OBEYED, self.OBEYED) == frozenset()
        assert relations(self.TEXT, self.BROKEN, self.BROKEN) == frozenset()
        assert "b" not in relations(self.TEXT, (), self.BROKEN)


TEXTS = (
    "Well, I think that a garden needs 3 things: water, light and patience.",
    "Gardens are calm. Do you have one? Mine is small but it has a very old tree, and a bench to sit on.",
)


class TestMixes:
    @pytest.mark.parametrize("relation", ["a", "b"])
    @pytest.mark.parametrize("seed", range(40))
    def test_intra(self, relation: Any, seed: int) -> None:
        made = contrasted(random.Random(seed), TEXTS, 3, relation)
        assert made is not None
        assert 1 <= len(made.better) == len(made.worse) <= 3
        assert relation in relations(TEXTS[0], made.better, made.worse)
        for one in (*made.better, *made.worse):
            assert one.obeyed(TEXTS[0]) != one.obeyed(TEXTS[1])

    @pytest.mark.parametrize("seed", range(40))
    def test_inter(self, seed: int) -> None:
        made = opposed(random.Random(seed), TEXTS, 3)
        assert made is not None and together(made.better) and together(made.worse)
        for text, obeyed, broken in ((TEXTS[0], made.better, made.worse), (TEXTS[1], made.worse, made.better)):
            assert all(one.obeyed(text) for one in obeyed) and not any(one.obeyed(text) for one in broken)

    def test_every_family_is_used(self) -> None:
        found = {offer.family for seed in range(5) for offer in offers(random.Random(seed), TEXTS)}
        assert {"words", "keyword", "sentences", "beginning", "end", "digits"} <= found

    def test_alike_texts_give_nothing(self) -> None:
        assert opposed(random.Random(0), ("Same.", "Same."), 3) is None
        one = Comparison("a", "p", ("Same.", "same."), (Edge(0, 1),))
        assert augmented(one, 0, intra="both", inter="contrast", most=3) is one

    @given(st.integers(0, 10**6), st.text("ab c.", max_size=40))
    @settings(max_examples=60, deadline=None)
    def test_length_limits(self, seed: int, text: str) -> None:
        for obeyed in (True, False):
            one = length_limit(random.Random(seed), text, obeyed=obeyed)
            assert (one is None) == (len(words(text)) < 2)
            assert one is None or (one.obeyed(text) == obeyed and one.args["n"] > 0)


class TestPrompts:
    def test_instructions_stand_at_the_end_of_the_last_user_turn(self) -> None:
        assert with_constraints("Why?", ["Be short."]) == "Why?\nBe short."
        system, user = {"role": "system", "content": "s"}, {"role": "user", "content": "Why?"}
        assert with_constraints((system, user), ["A.", "B."]) == (system, {"role": "user", "content": "Why?\nA. B."})
        parts = {"role": "user", "content": [{"type": "text", "text": "Why?"}]}
        assert with_constraints((parts,), ["A."])[0]["content"][-1] == {"type": "text", "text": "A."}
        assert with_constraints((user,), []) == (user,)

    def test_of_each_comparison_alone(self) -> None:
        method = get("mapl")
        assert method.augment is not None
        records = list(load("world:instructions", limit=40))
        first = method.augment(method.configure({}), records, 0)
        assert method.augment(method.configure({}), records[::-1], 0) == first[::-1]
        assert method.augment(method.configure({}), records, 1) != first
        for one in first:
            assert Counter(item.role for item in one.auxiliary) == {"intra": 2, "inter": 4}
            better, worse = sorted((i for i in one.auxiliary if i.role == "intra"), key=lambda item: -item.sign)
            assert better.response == worse.response and better.prompt != worse.prompt

    def test_a_part_without_weight_is_not_built(self) -> None:
        method = get("mapl")
        assert method.augment is not None
        records = list(load("world:instructions", limit=3))
        for options, role in (({"intra_weight": 0.0}, "inter"), ({"inter_weight": 0.0}, "intra")):
            for one in method.augment(method.configure(options), records, 0):
                assert {item.role for item in one.auxiliary} == {role}

    def test_strengthen_compares_with_the_plain_prompt(self) -> None:
        one = Comparison("a", "Say it.", TEXTS, (Edge(0, 1),))
        found = augmented(one, 0, intra=None, inter="strengthen", most=2)
        assert [(item.prompt is None, item.sign) for item in found.auxiliary] == [
            (True, -1.0),
            (True, 1.0),
            (False, 1.0),
            (False, -1.0),
        ]

    def test_prompts_alone_do_not_tell_the_better_one(self) -> None:
        """Over many pairs, no instruction is more often in the better prompt, and neither prompt is longer."""
        source = list(load("world:instructions"))
        counts: Counter[tuple[str, int]] = Counter()
        longer = shown = 0
        for seed in range(2):
            for one in source:
                made = augmented(replace(one, prompt="p"), seed, intra="both", inter=None, most=2)
                texts = {item.sign: item.prompt for item in made.auxiliary}
                if texts:
                    shown += 1
                    longer += (len(texts[1.0]) > len(texts[-1.0])) + (len(texts[1.0]) == len(texts[-1.0])) / 2
                    counts.update((word, int(sign)) for sign, text in texts.items() for word in set(text.split()))
        assert shown > 1000
        assert abs(longer / shown - 0.5) < 3 * 0.5 / math.sqrt(shown)
        common = {word for word, _ in counts if counts[word, 1] + counts[word, -1] > 300}
        assert len(common) >= 15
        for word in common:
            good, bad = counts[word, 1], counts[word, -1]
            assert abs(good - bad) < 4 * math.sqrt(good + bad), word
