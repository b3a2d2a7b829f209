"""``rather.loss``: three shapes of input, one number; and messages for what does not fit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import rather
from rather.errors import UserError
from rather.functional import LossOutput
from rather.methods.registry import methods
from rather.objectives.base import wanted

LENGTHS = ([3, 1, 5], [2, 4, 4])


def tokens(seed: int, lengths: list[int]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [-torch.rand(n, generator=generator, dtype=torch.float64) for n in lengths]


CHOSEN, REJECTED = tokens(0, LENGTHS[0]), tokens(1, LENGTHS[1])
REF_CHOSEN, REF_REJECTED = tokens(2, LENGTHS[0]), tokens(3, LENGTHS[1])


def sums(rows: list[Tensor]) -> Tensor:
    return torch.stack([row.sum() for row in rows])


def padded(rows: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Right-padded with NaN, which must never be looked at."""
    full = torch.full((len(rows), 7), float("nan"), dtype=torch.float64)
    mask = torch.zeros(len(rows), 7, dtype=torch.long)
    for index, row in enumerate(rows):
        full[index, 1 : 1 + row.numel()] = row
        mask[index, 1 : 1 + row.numel()] = 1
    return full, mask


def by_tokens(method: str, **options: Any) -> LossOutput:
    return rather.loss(method, CHOSEN, REJECTED, REF_CHOSEN, REF_REJECTED, **options)


BESIDE = {"auxiliary", "embedding", "scores"}
"""Needs that log-probabilities of pairs do not satisfy."""

OF_TOKENS = [
    name
    for name, method in methods().items()
    if not method.needs & BESIDE and not wanted(method.objective())[0] - {"weight"}
]
OF_SUMS = [name for name in OF_TOKENS if "tokens" not in methods()[name].needs]


@pytest.mark.parametrize("name", OF_SUMS)
def test_three_shapes_one_number(name: str) -> None:
    expected = by_tokens(name)
    (chosen, chosen_mask), (rejected, rejected_mask) = padded(CHOSEN), padded(REJECTED)
    reference = padded(REF_CHOSEN)[0], padded(REF_REJECTED)[0]
    boxes = rather.loss(name, chosen, rejected, *reference, chosen_mask=chosen_mask, rejected_mask=rejected_mask)
    of_sums = rather.loss(
        name,
        *map(sums, (CHOSEN, REJECTED, REF_CHOSEN, REF_REJECTED)),
        chosen_lengths=torch.tensor(LENGTHS[0]),
        rejected_lengths=torch.tensor(LENGTHS[1]),
    )
    mixed = rather.loss(name, CHOSEN, REJECTED, sums(REF_CHOSEN), sums(REF_REJECTED))
    for other in (boxes, of_sums, mixed):
        torch.testing.assert_close(other.loss, expected.loss)
        torch.testing.assert_close(other.per_pair, expected.per_pair)
        torch.testing.assert_close(other.margins, expected.margins)
        torch.testing.assert_close(other.chosen_rewards, expected.chosen_rewards)
        torch.testing.assert_close(other.rejected_rewards, expected.rejected_rewards)


@pytest.mark.parametrize("name", OF_TOKENS)
def test_terms_add_up_and_gradient_flows(name: str) -> None:
    chosen = [row.clone().requires_grad_() for row in CHOSEN]
    # The betas of pixels are so large that whole log-probabilities leave no gradient.
    options = {"beta": 1.0} if name in ("smpo", "pnapo") else {}
    out = rather.loss(name, chosen, REJECTED, REF_CHOSEN, REF_REJECTED, **options)
    torch.testing.assert_close(torch.stack(list(out.terms.values())).sum(), out.loss.detach())
    assert not any(term.requires_grad for term in out.terms.values())
    out.loss.backward()
    assert all(row.grad is not None and row.grad.any() for row in chosen)


def test_a_pair_weighs_what_its_weight_says() -> None:
    weight = torch.tensor([0.0, 2.0, 1.0])
    out = by_tokens("dpo", weight=weight)
    torch.testing.assert_close(out.loss, (out.per_pair * weight).sum() / 3)


def test_soft_labels() -> None:
    out = by_tokens("dpo", beta=1.0, probability=torch.tensor([0.5, 1.0, 0.25]), labels={"model": "soft"})
    up, down = (torch.nn.functional.softplus(sign * out.margins) for sign in (-1, 1))
    p = torch.tensor([0.5, 1.0, 0.25], dtype=torch.float64)
    torch.testing.assert_close(out.per_pair, p * up + (1 - p) * down)


def test_a_margin_is_asked_for() -> None:
    asked = torch.tensor([0.5, 0.0, 2.0], dtype=torch.float64)
    out = by_tokens("dpo", beta=1.0, margin=asked, margin_scale=2.0)
    torch.testing.assert_close(out.per_pair, torch.nn.functional.softplus(-(out.margins - 2 * asked)))


def test_a_label_model_over_any_link() -> None:
    nested = by_tokens("ipo", labels={"flip_rate": 0.1})
    dotted = by_tokens("ipo", **{"labels.flip_rate": 0.1})
    assert nested.loss == dotted.loss != by_tokens("ipo").loss


def test_unpaired_feedback() -> None:
    pairs = by_tokens("kto", baseline="none")
    out = rather.loss("kto", CHOSEN, REJECTED[:1], REF_CHOSEN, REF_REJECTED[:1], baseline="none")
    chosen, rejected = torch.sigmoid(-pairs.chosen_rewards), torch.sigmoid(pairs.rejected_rewards)
    torch.testing.assert_close(out.per_pair, torch.cat([chosen, rejected[:1]]))
    torch.testing.assert_close(out.loss, out.per_pair.mean())
    torch.testing.assert_close(pairs.loss, torch.cat([chosen, rejected]).mean())
    assert out.margins.shape == (0,)


def test_a_baseline_that_stands_for_a_divergence_is_not_negative() -> None:
    """KTO: where responses became less likely on average, z0 is 0 and not below."""
    lower = [[row - 2.0 for row in side] for side in (REF_CHOSEN, REF_REJECTED)]
    args = (*lower, REF_CHOSEN, REF_REJECTED)
    assert rather.loss("kto", *args, baseline="batch").loss == rather.loss("kto", *args, baseline="none").loss
    higher = (REF_CHOSEN, REF_REJECTED, *lower)
    assert rather.loss("kto", *higher, baseline="batch").loss != rather.loss("kto", *higher, baseline="none").loss


def test_only_targets() -> None:
    out = rather.loss("sft", CHOSEN)
    torch.testing.assert_close(out.loss, -torch.cat(CHOSEN).mean())


def test_weights_of_tokens() -> None:
    weights = [[1 + row.abs() for row in side] for side in (REF_REJECTED, REF_CHOSEN)][::-1]
    options: dict[str, Any] = {"beta": 1.0, "barrier": 0.0}
    out = by_tokens("tab_po", extras={"weight": tuple(weights)}, **options)

    def score(rows: list[Tensor], of: list[Tensor]) -> Tensor:
        return torch.stack([(row * w).sum() / w.sum() for row, w in zip(rows, of, strict=True)])

    ours = score(CHOSEN, weights[0]) - score(REF_CHOSEN, weights[0])
    theirs = score(REJECTED, weights[1]) - score(REF_REJECTED, weights[1])
    torch.testing.assert_close(out.margins, ours - theirs)
    (chosen, mask), (rejected, rejected_mask) = padded(CHOSEN), padded(REJECTED)
    boxes = rather.loss(
        "tab_po",
        chosen,
        rejected,
        padded(REF_CHOSEN)[0],
        padded(REF_REJECTED)[0],
        chosen_mask=mask,
        rejected_mask=rejected_mask,
        extras={"weight": (padded(weights[0])[0], padded(weights[1])[0])},
        **options,
    )
    torch.testing.assert_close(boxes.loss, out.loss)
    plain = by_tokens("dpo_norm", beta=1.0)
    torch.testing.assert_close(by_tokens("tab_po", **options).margins, plain.margins)


def test_divergence_of_tokens() -> None:
    kl = ([row.abs() for row in REF_CHOSEN], [2 * row.abs() for row in REF_REJECTED])
    out = by_tokens("tdpo", beta=0.5, extras={"kl": kl})
    u = by_tokens("dpo", beta=0.5).margins
    delta = sums(kl[1]) - sums(kl[0])
    torch.testing.assert_close(out.margins, u - 0.5 * delta)


@pytest.mark.parametrize(
    ("name", "extras", "message"),
    [
        ("tdpo", None, "needs kl of each token"),
        ("tdpo", {"kl": (CHOSEN, CHOSEN)}, "other numbers of tokens"),
        ("tab_po", {"kl": (CHOSEN, REJECTED)}, "does not look at kl"),
        ("dpo", {"weight": (CHOSEN, REJECTED)}, "does not look at weight"),
        ("sparsepo", {"kl": (CHOSEN, REJECTED)}, "looks at the reference model's layers"),
    ],
)
def test_extras_that_do_not_fit(name: str, extras: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        by_tokens(name, extras=extras)


def test_half_precision_is_computed_in_float32() -> None:
    args = [[row.bfloat16() for row in side] for side in (CHOSEN, REJECTED, REF_CHOSEN, REF_REJECTED)]
    out = rather.loss("dpo", *args, beta=1.0)
    exact = rather.loss("dpo", *[[row.double() for row in side] for side in args], beta=1.0)
    assert out.loss.dtype == torch.float32
    torch.testing.assert_close(out.loss.double(), exact.loss, rtol=1e-6, atol=1e-6)


ONE = torch.tensor([-1.0, -2.0])


@pytest.mark.parametrize(
    ("args", "options", "message"),
    [
        (("dop", ONE, ONE, ONE, ONE), {}, "did you mean 'dpo'"),
        (("dpo", ONE, ONE, ONE, ONE), {"bta": 1.0}, "did you mean 'beta'"),
        (("dpo", ONE, ONE, ONE, ONE), {"beta": -1.0}, "--beta"),
        (("dpo", ONE, ONE), {}, "ref_chosen: 'dpo' compares with a reference"),
        (("dpo", ONE, ONE, ONE), {}, "ref_rejected: 'dpo' compares with a reference"),
        (("simpo", ONE, ONE), {}, "chosen: 'simpo' averages over tokens and needs the lengths\n  pass chosen_lengths"),
        (("dpo", ONE, ONE[:1], ONE, ONE[:1]), {}, "'dpo' needs pairs, got 2 chosen and 1 rejected"),
        (("dpo", ONE, None, ONE), {}, "'dpo' needs pairs"),
        (("dpo", ONE, ONE, ONE[:1], ONE), {}, "ref_chosen: 1 responses, but 2 of the policy"),
        (("dpo", ONE, ONE, ONE, ONE), {"weight": torch.ones(3)}, r"weight: has shape \[3\], not \[2\]"),
        (("dpo", ONE, ONE, ONE, ONE), {"probability": torch.ones(2)}, "probability: 'dpo' does not look at it"),
        (("dpo", ONE, ONE, ONE, ONE), {"margin": torch.ones(2)}, "pass margin_scale=1.0"),
        (("kto", ONE, ONE[:1], ONE, ONE[:1]), {"weight": torch.ones(2)}, "weight: belongs to pairs"),
        (("dpo", ONE, ONE, ONE, ONE), {"chosen_mask": torch.ones(2, 1)}, "chosen_mask: a mask is for padded"),
        (("dpo", ONE[:, None], ONE, ONE, ONE), {"chosen_mask": torch.ones(2, 3)}, r"chosen_mask: has shape \[2, 3\]"),
        (("dpo", ONE[:, None], ONE, ONE, ONE), {"chosen_lengths": ONE}, "chosen_lengths: lengths are for summed"),
        (
            ("ipo", ONE, ONE, ONE, ONE),
            {"chosen_lengths": torch.ones(3)},
            r"chosen_lengths: has shape \[3\], not \[2\]",
        ),
        (("dpo", [1.0, 2.0], ONE, ONE, ONE), {}, "chosen: not log-probabilities of a batch"),
        (("dpo", torch.ones(()), ONE, ONE, ONE), {}, "chosen: not log-probabilities of a batch"),
        (("dpo", CHOSEN, REJECTED, REF_REJECTED, REF_REJECTED), {}, "ref_chosen: its responses have other numbers"),
    ],
)
def test_what_does_not_fit(args: tuple[Any, ...], options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        rather.loss(*args, **options)


def test_lazy_names() -> None:
    assert {"loss", "train", "get_method", "list_methods", "UserError"} <= set(dir(rather))
    assert rather.get_method("robust").name == "rdpo"
    with pytest.raises(AttributeError, match="no attribute 'los'"):
        rather.los  # noqa: B018
