"""Provably robust DPO, arXiv 2403.00409: does flip correction remove the bias that flipped labels put in?

Claim. If a known share eps < 1/2 of the labels is flipped at random, the corrected loss (rDPO) is unbiased: its error falls
as 1 / sqrt(n), with a factor 1 / (1 - 2 eps). DPO and label smoothing (cDPO) stay biased however many pairs there are.

World. 400 prompts with 12 actions, unit-norm random features phi in R^8, a true parameter of norm 3, reward theta . phi, a
uniform reference and beta = 1. So a policy is log-linear, pi(a|s) ~ exp(theta . phi(s, a)), and the margin of a pair is the
difference of theta . phi. n pairs of random actions are labelled by Bradley-Terry and flipped with probability eps.

Arms. DPO, cDPO and rDPO on the same pairs, each loss convex in theta, minimised by Newton's method with a small ridge. rDPO
is told the true eps; further arms tell it too little (eps - 0.1), too much (eps + 0.1), or what the most likely flip rate
on held-out pairs is.

Verdict. The claim needs: rDPO's error falls at a rate near n^(-1/2), the errors of DPO and cDPO hardly fall, and the order
is rDPO < DPO < cDPO at eps = 0.2 and, with the most pairs, at eps = 0.4. It falls if, at eps = 0.2 and the most pairs,
rDPO's error is more than a third of DPO's.

Noted besides. At eps = 0.4 and few pairs the corrected loss is unbiased but noisy. Symmetric flips do not turn the direction
of theta: cosine and best-action accuracy are alike for all three, so a test of pair accuracy alone shows nothing. And a rate
assumed too high does more harm than one too low.

Our reading: the world's sizes, the ridge, and the bounds of the criteria. The paper states the rate, not these numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from pydantic import Field
from torch import Tensor

from rather.functional import loss
from rather.inspection.flip_rate import estimate_flip_rate
from rather.studies.base import Criterion, Study, StudySettings
from rather.studies.figure import bars, lines
from rather.studies.results import Estimate, Finding, Results, Rows, every

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Settings(StudySettings):
    prompts: int = Field(400, ge=1, description="prompts")
    actions: int = Field(12, ge=2, description="actions of each prompt")
    dimensions: int = Field(8, ge=1, description="dimensions of the features")
    norm: float = Field(3.0, gt=0, description="norm of the true parameter")
    few: int = Field(2_000, ge=10, description="pairs, the smaller number")
    many: int = Field(20_000, ge=10, description="pairs, the larger number")
    low: float = Field(0.2, ge=0.1, lt=0.4, description="rate of flipped labels, the lower")
    high: float = Field(0.4, ge=0.1, lt=0.5, description="rate of flipped labels, the higher")
    ridge: float = Field(1e-4, ge=0, description="weight of half the squared norm of theta, added to the mean loss")
    newton_steps: int = Field(40, ge=1, description="most Newton steps")


@dataclass(frozen=True)
class World:
    """Features [S, A, d], the true parameter [d], and a stream of draws."""

    features: Tensor
    truth: Tensor
    random: torch.Generator

    def differences(self, count: int) -> Tensor:
        """[count, d] feature differences of two random actions of a random prompt."""
        prompts, actions, _ = self.features.shape
        prompt = torch.randint(prompts, (count,), generator=self.random)
        first = torch.randint(actions, (count,), generator=self.random)
        shift = torch.randint(1, actions, (count,), generator=self.random)
        return self.features[prompt, first] - self.features[prompt, (first + shift) % actions]

    def labelled(self, count: int, rate: float) -> Tensor:
        """[count, d] features of the preferred action minus those of the other, with flips."""
        differences = self.differences(count)
        uniform = torch.rand(2, count, generator=self.random, dtype=torch.float64)
        right = uniform[0] < torch.sigmoid(differences @ self.truth)
        flipped = uniform[1] < rate
        return torch.where((right ^ flipped)[:, None], differences, -differences)


def make_world(settings: Settings, seed: int) -> World:
    random = torch.Generator().manual_seed(seed)
    shape = (settings.prompts, settings.actions, settings.dimensions)
    features = torch.randn(shape, generator=random, dtype=torch.float64)
    truth = torch.randn(settings.dimensions, generator=random, dtype=torch.float64)
    return World(features / features.norm(dim=-1, keepdim=True), settings.norm * truth / truth.norm(), random)


def fit(settings: Settings, pairs: Tensor, method: str, **options: Any) -> Tensor:
    """[d] minimiser of a method's mean loss plus the ridge, by damped Newton steps.

    The loss depends on theta through the margins [n] alone, so its Hessian is X' diag(l'') X / n with the link's own second
    derivative, taken by differentiating the library's loss twice.
    """
    theta = torch.zeros(pairs.shape[1], dtype=pairs.dtype)
    eye = settings.ridge * torch.eye(len(theta), dtype=pairs.dtype)
    none = pairs.new_zeros(len(pairs))

    def at(theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        margin = (pairs @ theta).requires_grad_()
        total = loss(method, margin, none, none, none, beta=1.0, **options).per_pair.sum()
        slope = torch.autograd.grad(total, margin, create_graph=True)[0]
        bend = torch.autograd.grad(slope.sum(), margin)[0]
        value = total.detach() / len(pairs) + settings.ridge / 2 * theta @ theta
        gradient = pairs.T @ slope.detach() / len(pairs) + settings.ridge * theta
        return value, gradient, pairs.T @ (bend[:, None] * pairs) / len(pairs) + eye

    value, gradient, hessian = at(theta)
    for _ in range(settings.newton_steps):
        step, size = torch.linalg.solve(hessian, gradient), 1.0
        moved = at(theta - step)
        while moved[0] > value and size > 1e-6:
            size /= 2
            moved = at(theta - size * step)
        theta = theta - size * step
        value, gradient, hessian = moved
        if float(gradient.abs().max()) < 1e-10:
            break
    return theta


def measure(world: World, theta: Tensor) -> dict[str, float]:
    """Error of a fit, gap in expected reward of its policy, and how right its direction is."""
    reward, fitted = world.features @ world.truth, world.features @ theta
    best = (torch.softmax(reward, -1) * reward).sum(-1)
    gained = (torch.softmax(fitted, -1) * reward).sum(-1)
    return {
        "error": float((theta - world.truth).norm()),
        "gap": float((best - gained).mean()),
        "cosine": float(torch.cosine_similarity(theta, world.truth, dim=0)),
        "best action": float((reward.argmax(-1) == fitted.argmax(-1)).double().mean()),
        "norm": float(theta.norm()),
    }


def cell(method: str, rate: float, count: int) -> str:
    return f"{method}, eps {rate:g}, n {count}"


def run(settings: Settings, seed: int) -> Rows:
    rows: dict[str, Mapping[str, float]] = {}
    world = make_world(settings, seed)
    for rate in (settings.low, settings.high):
        pairs = world.labelled(settings.many, rate)
        for count in (settings.few, settings.many):
            arms = {
                "DPO": fit(settings, pairs[:count], "dpo"),
                "cDPO": fit(settings, pairs[:count], "cdpo", smoothing=rate),
                "rDPO": fit(settings, pairs[:count], "rdpo", flip_rate=rate),
            }
            rows |= {cell(name, rate, count): measure(world, theta) for name, theta in arms.items()}
    rows |= _other_rates(settings, world)
    return rows


def _other_rates(settings: Settings, world: World) -> Rows:
    """rDPO told a rate too low, too high, or estimated, at the lower rate and the most pairs."""
    pairs, held_out = (world.labelled(settings.many, settings.low) for _ in range(2))
    estimated = estimate_flip_rate(margins=held_out @ fit(settings, pairs, "dpo")).rate
    told = {"too low": settings.low - 0.1, "too high": settings.low + 0.1, "estimated": estimated}
    fits = {name: fit(settings, pairs, "rdpo", flip_rate=rate) for name, rate in told.items()}
    return {f"rDPO told eps {name}": measure(world, theta) | {"told": told[name]} for name, theta in fits.items()}


def _arm(settings: Settings, method: str, where: str) -> str:
    """The cell of a method at ``low`` or ``high`` noise with ``few`` or ``many`` pairs."""
    noise, pairs = where.split()
    return cell(method, getattr(settings, noise), getattr(settings, pairs))


def exponent(r: Results, method: str) -> Estimate:
    """The power of n by which a method's error goes at the lower rate, over seeds."""
    few, many = (_arm(r.settings, method, f"low {pairs}") for pairs in ("few", "many"))
    span = math.log(r.settings.many / r.settings.few)
    return r.over(
        f"power of n in {method}'s error", lambda rows: math.log(rows[many]["error"] / rows[few]["error"]) / span
    )


def _against_dpo(r: Results, method: str, metric: str, where: str = "low many") -> Estimate:
    return r.ratio(_arm(r.settings, method, where), _arm(r.settings, "DPO", where), metric)


def _ordered(r: Results, *conditions: str) -> Finding:
    """rDPO below DPO below cDPO."""
    found = []
    for where in conditions:
        below, above = _against_dpo(r, "rDPO", "error", where), _against_dpo(r, "cDPO", "error", where)
        found += [below.below(1.0), above.above(1.0)]
    return every(*found)


def _same_direction(r: Results) -> Finding:
    names = [_arm(r.settings, method, "low many") for method in ("DPO", "cDPO", "rDPO")]
    return every(*(r.difference(name, names[0], "best action").within(-0.02, 0.02) for name in names[1:]))


def _factor_of_noise(r: Results) -> Finding:
    """The error at the higher rate over that at the lower, as 1 / (1 - 2 eps) says, within a half either way."""
    low, high = (_arm(r.settings, "rDPO", f"{noise} many") for noise in ("low", "high"))
    expected = (1 - 2 * r.settings.low) / (1 - 2 * r.settings.high)
    return r.ratio(high, low, "error").within(expected / 1.5, expected * 1.5)


def _too_high_is_worse(r: Results) -> Finding:
    return r.ratio("rDPO told eps too high", "rDPO told eps too low", "error").above(1.0)


def _estimate_serves(r: Results) -> Finding:
    return r.ratio("rDPO told eps estimated", _arm(r.settings, "DPO", "low many"), "error").below(1 / 3)


CRITERIA = (
    Criterion("rate", "rDPO's error falls about as n^(-1/2): a power between -0.75 and -0.25",
              lambda r: exponent(r, "rDPO").within(-0.75, -0.25)),
    Criterion("bias stays", "the errors of DPO and cDPO hardly fall: powers of n above -0.15",
              lambda r: every(exponent(r, "DPO").above(-0.15), exponent(r, "cDPO").above(-0.15))),
    Criterion("order", "rDPO's error is below DPO's and cDPO's above it, at the lower rate and at the most pairs",
              lambda r: _ordered(r, "low few", "low many", "high many")),
    Criterion("no cure", "at the lower rate and the most pairs rDPO's error is more than a third of DPO's",
              lambda r: _against_dpo(r, "rDPO", "error").above(1 / 3), "refutes"),
    Criterion("order with few pairs", "the same order at the higher rate with few pairs",
              lambda r: _ordered(r, "high few"), "noted"),
    Criterion("factor", "from the lower to the higher rate rDPO's error grows as 1 / (1 - 2 eps), within a factor 1.5",
              _factor_of_noise, "noted"),
    Criterion("direction", "the best action is found equally often by all three, within 0.02", _same_direction, "noted"),
    Criterion("too much", "a rate assumed 0.1 too high leaves a larger error than one 0.1 too low",
              _too_high_is_worse, "noted"),
    Criterion("estimated", "with the rate estimated from held-out pairs rDPO's error is below a third of DPO's",
              _estimate_serves, "noted"),
)  # fmt: skip


def plot(r: Results, figure: Figure) -> None:
    settings: Settings = r.settings
    left, right = figure.subplots(1, 2)
    series = {
        f"{method}, eps {rate:g}": {count: cell(method, rate, count) for count in (settings.few, settings.many)}
        for rate in (settings.low, settings.high)
        for method in ("DPO", "cDPO", "rDPO")
    }
    lines(left, r, "error", series, log="xy")
    left.set(xlabel="pairs n", ylabel="distance to the true parameter")
    told = ["rDPO told eps too low", "rDPO told eps too high", "rDPO told eps estimated"]
    bars(right, r, "error", [_arm(settings, method, "low many") for method in ("DPO", "rDPO")] + told)
    right.set(xscale="log", xlabel="distance to the true parameter")


STUDY = Study(
    slug="rdpo",
    title="Robust DPO under flipped labels",
    claim="With labels flipped at a known rate the corrected loss is unbiased, so its error vanishes with more pairs, where "
    "DPO and label smoothing stay wrong.",
    source="arXiv 2403.00409",
    settings=Settings,
    run=run,
    metrics={
        "error": "distance of the fitted parameter from the true one",
        "gap": "expected reward of the true log-linear policy minus that of the fitted one (negative for a sharper policy)",
        "cosine": "cosine of the fitted and the true parameter",
        "best action": "share of prompts whose best action has the largest fitted reward",
        "norm": "norm of the fitted parameter (the true one's is a setting)",
        "told": "flip rate that rDPO was told",
    },
    criteria=CRITERIA,
    tiny={"prompts": 40, "actions": 6, "few": 200, "many": 1_000, "newton_steps": 15},
    plot=plot,
)
