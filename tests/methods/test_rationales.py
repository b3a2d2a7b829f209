"""Rationales: published values and identities of the losses, and the data that they are made of."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import rather
from rather.data.load import load
from rather.data.rationales import drawn_first
from rather.data.types import Auxiliary, Comparison, Edge
from rather.errors import UserError
from rather.methods.registry import get
from rather.objectives.scores import Layout, Scores
from rather.objectives.supervised import Supervised
from rows import jsonl, pair

PAIR = Comparison("a", "Why?", ("Because.", "No."), (Edge(0, 1),))
REASON = Auxiliary("rationale", "It answers.", prompt="q")


def batch(lengths: list[int], policy: list[float], reference: list[float], reason: bool = True) -> Any:
    """One pair (chosen, rejected) and its rationale; a response's score is spread evenly over its elements."""
    pair = PAIR.with_auxiliary([REASON]) if reason else PAIR
    layout = Layout.of([pair], lengths)
    response = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))

    def scores(values: list[float]) -> Scores:
        sums = torch.tensor(values, dtype=torch.float64, requires_grad=True)
        return Scores((sums / layout.lengths)[response], response)

    return scores(policy), scores(reference), layout


def value(method: str, given: Any, **options: Any) -> Tensor:
    objective = get(method).objective(**options)
    policy, reference, layout = given
    return objective(policy, reference if objective.needs_reference else None, layout).loss(layout.counts())


def slopes(loss: Tensor, given: Any) -> list[float]:
    """Derivative in each response's sum."""
    policy, _, layout = given
    (on_elements,) = torch.autograd.grad(loss, policy.elements)
    starts = torch.cumsum(layout.lengths, 0) - layout.lengths
    return on_elements[starts].tolist()


PI, REF = [-42.0, -47.0], [-43.5, -46.0]  # log-ratio margin 2.5


@pytest.mark.parametrize(
    ("likelihood", "gamma", "link", "expected"),
    [
        (-180.0, 0.001, "log", 0.75593941987884),
        (-180.0, 0.001, "logsigmoid", 1.3631311447196),
        (-18.0, 1.0, "log", 18.575939419879),
        (-18.0, 1.0, "logsigmoid", 18.575939435109),
    ],
)
def test_published_values(likelihood: float, gamma: float, link: str, expected: float) -> None:
    given = batch([7, 8, 5], [*PI, likelihood], [*REF, -3.0])
    loss = value("rationale_dpo", given, gamma=gamma, link=link)
    assert loss.item() == pytest.approx(expected, rel=2e-13)


@pytest.mark.parametrize(
    ("gamma", "likelihood", "expected"),
    [
        (0.001, -180.0, 0.00054487889237358),
        (0.001, -18.0, 0.00050449987850394),
        (1.0, -0.5, 0.62245933120185),
    ],
)
def test_weight_of_the_rationale(gamma: float, likelihood: float, expected: float) -> None:
    given = batch([7, 8, 5], [*PI, likelihood], [*REF, -3.0])
    of_chosen, _, of_rationale = slopes(value("rationale_dpo", given, gamma=gamma, link="logsigmoid"), given)
    assert -of_rationale == pytest.approx(expected, rel=1e-12)
    plain = batch([7, 8], PI, REF, reason=False)
    assert of_chosen == pytest.approx(slopes(value("dpo", plain), plain)[0], rel=1e-12)


@pytest.mark.parametrize(("link", "expected"), [("log", 2.294843924293), ("logsigmoid", 2.6359977990251)])
def test_orpo_with_rationales(link: str, expected: float) -> None:
    lengths = [4, 6, 10]
    given = batch(lengths, [-1.35 * 4, -1.8 * 6, -0.9 * 10], [0.0] * 3)
    assert value("rationale_orpo", given, gamma=1.0, link=link).item() == pytest.approx(expected, rel=1e-12)


logp = st.floats(-300, -0.01)
weight = st.floats(0.001, 3)
quick = settings(max_examples=60, deadline=None)


@quick
@given(logp, logp, logp, logp, logp, weight, st.floats(0.01, 2))
def test_the_terms_meet_in_shared_parameters_alone(
    w: float, lose: float, ref_w: float, ref_l: float, reason: float, gamma: float, beta: float
) -> None:
    given = batch([3, 2, 4], [w, lose, reason], [ref_w, ref_l, -1.0])
    plain = batch([3, 2], [w, lose], [ref_w, ref_l], reason=False)
    dpo = value("dpo", plain, beta=beta)
    for link in ("log", "logsigmoid"):
        loss = value("rationale_dpo", given, beta=beta, gamma=gamma, link=link)
        found = slopes(loss, given)
        assert found[:2] == pytest.approx(slopes(value("dpo", plain, beta=beta), plain), abs=1e-12)
        if link == "log":
            assert loss.item() == pytest.approx(dpo.item() - gamma * reason, rel=1e-12)
            assert found[2] == pytest.approx(-gamma, rel=1e-12)
        else:
            assert -gamma - 1e-12 <= found[2] <= -gamma / 2 + 1e-12
    other = batch([3, 2, 4], [w, lose, reason], [ref_w, ref_l, -77.0])  # the reference's view of the rationale
    assert value("rationale_dpo", other, beta=beta, gamma=gamma).item() == pytest.approx(
        value("rationale_dpo", given, beta=beta, gamma=gamma).item(), rel=1e-13
    )


@quick
@given(logp, logp, logp, logp, logp)
def test_limits(w: float, lose: float, ref_w: float, ref_l: float, reason: float) -> None:
    given = batch([3, 2, 4], [w, lose, reason], [ref_w, ref_l, -1.0])
    plain = batch([3, 2], [w, lose], [ref_w, ref_l], reason=False)
    dpo = value("dpo", plain).item()
    assert value("rationale_dpo", given, gamma=0.0).item() == pytest.approx(dpo, rel=1e-13)
    with_log_2 = value("rationale_dpo", given, gamma=0.0, link="logsigmoid").item()
    assert with_log_2 == pytest.approx(dpo + math.log(2), rel=1e-13)
    for link in ("log", "logsigmoid"):  # without a rationale the term is gone, whatever its weight
        assert value("rationale_dpo", plain, gamma=0.7, link=link).item() == pytest.approx(dpo, rel=1e-13)
    orpo = value("orpo", plain).item()
    assert value("rationale_orpo", given, gamma=0.0).item() == pytest.approx(orpo, rel=1e-12)


def test_links_meet_far_below() -> None:
    given = batch([1, 1, 1], [*PI, -17.0], [*REF, 0.0])
    difference = value("rationale_dpo", given, gamma=1.0, link="logsigmoid") - value("rationale_dpo", given, gamma=1.0)
    assert 0 < difference.item() < 1e-7


def test_left_out_gamma_is_one_over_the_mean_length() -> None:
    pairs = [replace(PAIR, id=str(i)).with_auxiliary([REASON]) for i in range(2)]
    lengths = [2, 3, 4, 2, 3, 16]
    layout = Layout.of(pairs, lengths)
    response = torch.repeat_interleave(torch.arange(6), torch.tensor(lengths))
    scores = Scores(torch.linspace(-3, -0.1, sum(lengths), dtype=torch.float64), response)
    left_out, given = (
        get("rationale_dpo").objective(gamma=gamma)(scores, scores, layout).loss(layout.counts())
        for gamma in (None, 1 / 10)
    )
    assert left_out.item() == pytest.approx(given.item(), rel=1e-13)


def test_logsigmoid_asks_for_a_gamma() -> None:
    with pytest.raises(UserError, match="needs a gamma"):
        get("rationale_dpo").configure({"link": "logsigmoid"})


class TestData:
    def records(self, tmp_path: Any, *rows: dict[str, Any]) -> list[Comparison]:
        return list(load(str(jsonl(tmp_path / "data.jsonl", *rows))))

    def added(self, comparisons: list[Comparison], seed: int = 0, **options: Any) -> list[Comparison]:
        method = get("rationale_dpo")
        assert method.augment is not None
        return method.augment(method.configure(options), comparisons, seed)

    def test_a_column_becomes_a_response_to_a_verdict_prompt(self, tmp_path: Any) -> None:
        rows = [pair(0, rationale=" Better. ", rationale_first="rejected"), pair(1, rationale=None), pair(2)]
        with_reason, *without = self.added(self.records(tmp_path, *rows))
        (item,) = with_reason.auxiliary
        assert (item.role, item.response) == ("rationale", "Better.")
        text = item.prompt[0]["content"]
        assert text.index("Answer A:\nNo 0.") < text.index("Answer B:\nAnswer 0.")
        assert "Question 0?" in text
        assert [one.auxiliary for one in without] == [(), ()]

    def test_position_says_nothing_unless_asked_for(self, tmp_path: Any) -> None:
        records = self.records(tmp_path, *(pair(i, rationale="Better.") for i in range(200)))

        def chosen_first(found: list[Comparison]) -> int:
            return sum(f"Answer A:\n{one.responses[0]}" in one.auxiliary[0].prompt[0]["content"] for one in found)

        assert 75 <= chosen_first(self.added(records)) <= 125
        assert self.added(records) == self.added(records) != self.added(records, seed=1)
        assert self.added(records[:7]) == self.added(records)[:7]  # of each record alone
        assert chosen_first(self.added(records, chosen_first=True)) == 200

    def test_a_conversation_is_shown_with_its_speakers(self, tmp_path: Any) -> None:
        prompt = [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello"},
            {"role": "user", "content": "Why?"},
        ]
        (found,) = self.added(self.records(tmp_path, {**pair(0, rationale="So."), "prompt": prompt}))
        assert "Question:\nUser: Hi\nAssistant: Hello\nUser: Why?" in found.auxiliary[0].prompt[0]["content"]

    def test_of_a_ranking_each_pair_has_its_own(self) -> None:
        three = Comparison("r", "p", ("a", "b", "c"), (Edge(0, 1), Edge(0, 2)), extras={"rationale": ["one", None]})
        (found,) = self.added([three])
        assert [item.response for item in found.auxiliary] == ["one"]
        with pytest.raises(UserError, match="1 rationales for 2 pairs"):
            self.added([replace(three, extras={"rationale": "one"})])

    @pytest.mark.parametrize(
        ("columns", "message"),
        [({"rationale": 7}, "is a int, not a text"), ({"rationale": "x", "rationale_first": "left"}, "'left'")],
    )
    def test_a_wrong_column_is_named(self, columns: dict[str, Any], message: str) -> None:
        with pytest.raises(UserError, match=message):
            self.added([replace(PAIR, extras=columns)])

    def test_the_instruction_world_gives_true_reasons(self) -> None:
        found = list(load("world:instructions?rationale=1&split=eval"))
        assert len(found) == len(load("world:instructions?split=eval"))
        for one in found:
            better = "Answer A" if one.extras["rationale_first"] == "chosen" else "Answer B"
            assert one.extras["rationale"].startswith(f"{better} is better.")
        firsts = [one.extras["rationale_first"] for one in found]
        assert firsts == [drawn_first(one.id, 0) for one in found]
        assert 0.35 < firsts.count("chosen") / len(firsts) < 0.65
        limit = next(
            one
            for one in found
            if one.extras["constraints"][0][0] == "max_words" and "most" in one.extras["rationale"]
        )
        assert f"at most {limit.extras['constraints'][0][1]['n']} words" in limit.extras["rationale"]


def test_supervised_takes_no_rationale_for_a_target() -> None:
    """Auxiliary responses are no answers to imitate."""
    policy, _, layout = batch([3, 2, 4], [-3.0, -2.0, -400.0], [0.0] * 3)
    assert Supervised()(policy, None, layout).loss(layout.counts()).item() == pytest.approx(1.0)


def test_the_functional_form_refuses_what_it_cannot_see() -> None:
    with pytest.raises(UserError, match="terms over responses of its own making"):
        rather.loss("rationale_dpo", torch.zeros(2), torch.zeros(2))
