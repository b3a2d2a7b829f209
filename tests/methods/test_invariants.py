"""Identities that hold for every input, from the papers."""

from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

import rather
from rather.data.types import Comparison, Edge
from rather.methods.registry import get
from rather.objectives.scores import Layout, Scores

margin = st.floats(-200, 200)
score = st.floats(-300, 0)
beta_ = st.floats(0.01, 5)
rate_ = st.floats(0, 0.45)
rates = st.floats(0.01, 0.45)


def vector(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def at(method: str, h: float, beta: float, **options: float) -> Tensor:
    """The loss of a pair with log-ratio margin h."""
    zero = vector(0.0)
    return rather.loss(method, vector(h), zero, zero, zero, beta=beta, **options).loss


def slope(method: str, h: float, beta: float, **options: float) -> float:
    chosen, zero = vector(h).requires_grad_(), vector(0.0)
    loss = rather.loss(method, chosen, zero, zero, zero, beta=beta, **options).loss
    return torch.autograd.grad(loss, chosen)[0].item()


def close(actual: Tensor | float, expected: Tensor | float) -> None:
    left, right = (torch.as_tensor(value, dtype=torch.float64) for value in (actual, expected))
    assert_close(left, right, rtol=1e-9, atol=1e-9)


class TestFlipCorrection:
    @given(margin, beta_)
    def test_without_flips_it_is_dpo(self, h: float, beta: float) -> None:
        close(at("rdpo", h, beta, flip_rate=0.0), at("dpo", h, beta))

    @given(beta_, rate_)
    def test_at_zero_it_is_log_two(self, beta: float, rate: float) -> None:
        close(at("rdpo", 0.0, beta, flip_rate=rate), math.log(2))

    @given(margin, beta_, rate_)
    def test_unbiased(self, h: float, beta: float, rate: float) -> None:
        kept, flipped = at("rdpo", h, beta, flip_rate=rate), at("rdpo", -h, beta, flip_rate=rate)
        close((1 - rate) * kept + rate * flipped, at("dpo", h, beta))

    @given(margin, beta_, rate_)
    def test_difference_under_exchange(self, h: float, beta: float, rate: float) -> None:
        difference = at("rdpo", h, beta, flip_rate=rate) - at("rdpo", -h, beta, flip_rate=rate)
        close(difference, -beta * h / (1 - 2 * rate))

    @given(margin, margin, beta_, rate_)
    def test_convex_and_decreasing(self, h: float, other: float, beta: float, rate: float) -> None:
        ends = [at("rdpo", x, beta, flip_rate=rate) for x in (h, other)]
        middle = at("rdpo", (h + other) / 2, beta, flip_rate=rate)
        assert middle <= (ends[0] + ends[1]) / 2 + 1e-9
        assert h == other or (ends[0] - ends[1]) * (h - other) <= 1e-9

    @given(margin, beta_, rates)
    def test_gradient_weight_is_bounded(self, h: float, beta: float, rate: float) -> None:
        zeta = -slope("rdpo", h, beta, flip_rate=rate) / beta
        scale = 1 - 2 * rate
        assert rate / scale - 1e-9 <= zeta <= (1 - rate) / scale + 1e-9

    @given(beta_, rate_)
    def test_gradient_weight_at_zero(self, beta: float, rate: float) -> None:
        close(-slope("rdpo", 0.0, beta, flip_rate=rate) / beta, 1 / (2 * (1 - 2 * rate)))

    @given(st.floats(0.05, 0.95), st.floats(0.1, 2), rate_)
    def test_stationary_margin_on_noisy_labels(self, clean: float, beta: float, rate: float) -> None:
        h = math.log(clean / (1 - clean)) / beta
        noisy = clean * (1 - rate) + (1 - clean) * rate
        pull = noisy * slope("rdpo", h, beta, flip_rate=rate) - (1 - noisy) * slope("rdpo", -h, beta, flip_rate=rate)
        close(pull, 0.0)

    @given(margin, beta_, rate_)
    def test_smoothing_moves_the_other_way(self, h: float, beta: float, rate: float) -> None:
        plain = at("dpo", h, beta)
        close(at("cdpo", h, beta, smoothing=rate) - plain, rate * beta * h)
        close(at("rdpo", h, beta, flip_rate=rate) - plain, -rate / (1 - 2 * rate) * beta * h)

    @given(margin, beta_, rate_)
    def test_corrects_any_link(self, h: float, beta: float, rate: float) -> None:
        """Unbiased over IPO, hinge, and a link of both ends (NCA)."""
        zero, labels = vector(0.0), {"flip_rate": rate}
        for method in ("ipo", "hinge", "nca_pair"):
            options = {"beta": beta, "reduce": "sum"}
            up, down = (vector(h), zero, zero, zero), (zero, vector(h), zero, zero)
            kept, flipped = (rather.loss(method, *side, labels=labels, **options).loss for side in (up, down))
            plain = rather.loss(method, *up, **options).loss
            assert_close((1 - rate) * kept + rate * flipped, plain, rtol=1e-7, atol=1e-7)


class TestPairsOfErrors:
    """Diffusion-DPO, in mean squared errors m, r."""

    @given(st.floats(0, 2), st.floats(0, 2), st.integers(1, 6))
    def test_at_the_reference(self, error_w: float, error_l: float, pairs: int) -> None:
        beta = 100.0
        m_w, m_l = (torch.full((pairs, 1), e, dtype=torch.float64, requires_grad=True) for e in (error_w, error_l))
        scores = [-0.5 * m for m in (m_w, m_l)]
        out = rather.loss("diffusion_dpo", *scores, *(s.detach() for s in scores), beta=beta)
        close(out.loss, math.log(2))
        on_w, on_l = torch.autograd.grad(out.loss, (m_w, m_l))
        close(on_w, torch.full_like(on_w, beta / (4 * pairs)))
        close(on_l, torch.full_like(on_l, -beta / (4 * pairs)))

    @given(margin)
    def test_exchange(self, z: float) -> None:
        close(at("diffusion_dpo", z, 1.0, reduce="sum") - at("diffusion_dpo", -z, 1.0, reduce="sum"), -z)

    @given(st.floats(-5, 5), st.floats(0, 2), st.floats(0, 2))
    def test_only_differences_matter(self, shift: float, error_w: float, error_l: float) -> None:
        values = [vector(-0.5 * e)[:, None] for e in (error_w, error_l, 0.3, 0.4)]
        moved = [v - 0.5 * shift for v in values[:2]] + values[2:]
        close(
            rather.loss("diffusion_dpo", *moved, beta=50.0).loss, rather.loss("diffusion_dpo", *values, beta=50.0).loss
        )

    @given(st.floats(0, 2), st.floats(0, 2), st.floats(1, 100))
    def test_equal_reference_errors_are_no_reference(self, error_w: float, error_l: float, beta: float) -> None:
        policy = [vector(-0.5 * e)[:, None] for e in (error_w, error_l)]
        same = [vector(-0.37)[:, None]] * 2
        close(
            rather.loss("diffusion_dpo", *policy, *same, beta=beta).loss,
            rather.loss("simpo", *policy, beta=beta, gamma=0.0).loss,
        )


def list_loss(method: str, policy: list[float], reference: list[float], beta: float) -> tuple[float, list[float]]:
    """Loss of one winner (first) against the others, and its gradient on the policy's scores."""
    count = len(policy)
    edges = tuple(Edge(0, loser) for loser in range(1, count))
    layout = Layout.of([Comparison("list", "", ("",) * count, edges)], [1] * count)
    elements, response = vector(*policy).requires_grad_(), torch.arange(count)
    outcome = get(method).objective(beta=beta)(
        Scores(elements, response), Scores(vector(*reference), response), layout
    )
    loss = outcome.loss(layout.counts())
    return loss.item(), torch.autograd.grad(loss, elements)[0].tolist()


lists = st.integers(2, 7).flatmap(lambda n: st.tuples(*(st.lists(score, min_size=n, max_size=n) for _ in range(2))))
betas = st.floats(0.01, 1)


class TestSeveralNegatives:
    @given(score, score, score, score, betas)
    def test_one_negative_is_dpo(self, w: float, lose: float, ref_w: float, ref_l: float, beta: float) -> None:
        plain = rather.loss("dpo", vector(w), vector(lose), vector(ref_w), vector(ref_l), beta=beta).loss.item()
        for method in ("dmpo", "sdpo"):
            close(list_loss(method, [w, lose], [ref_w, ref_l], beta)[0], plain)

    @given(lists, betas)
    def test_softmax_is_at_least_any_single_negative_and_grows_with_more(
        self, scores: tuple[list[float], list[float]], beta: float
    ) -> None:
        policy, reference = scores
        whole = list_loss("sdpo", policy, reference, beta)[0]
        for k in range(1, len(policy)):
            single = list_loss("sdpo", [policy[0], policy[k]], [reference[0], reference[k]], beta)[0]
            assert whole >= single - 1e-9
        if len(policy) > 2:
            assert whole >= list_loss("sdpo", policy[:-1], reference[:-1], beta)[0] - 1e-9

    @given(lists, betas)
    def test_gradients(self, scores: tuple[list[float], list[float]], beta: float) -> None:
        policy, reference = scores
        ratio = [p - r for p, r in zip(policy, reference, strict=True)]
        negatives = ratio[1:]
        z = beta * (ratio[0] - sum(negatives) / len(negatives))
        mean = list_loss("dmpo", policy, reference, beta)[1]
        close(vector(*mean[1:]), beta * torch.sigmoid(vector(-z)).expand(len(negatives)) / len(negatives))
        shares = torch.softmax(vector(0.0, *(beta * (r - ratio[0]) for r in negatives)), 0)
        soft = list_loss("sdpo", policy, reference, beta)[1]
        close(vector(*soft[1:]), beta * shares[1:])
        close(vector(soft[0]), -beta * shares[1:].sum()[None])

    @given(lists, betas, st.randoms(use_true_random=False))
    def test_order_of_negatives(self, scores: tuple[list[float], list[float]], beta: float, random: object) -> None:
        order = list(range(1, len(scores[0])))
        random.shuffle(order)  # type: ignore[attr-defined]
        moved = [[side[0], *(side[k] for k in order)] for side in scores]
        for method in ("dmpo", "sdpo"):
            before, gradient = list_loss(method, *scores, beta)
            after, moved_gradient = list_loss(method, *moved, beta)
            close(after, before)
            close(vector(*moved_gradient[1:]), vector(*(gradient[k] for k in order)))
