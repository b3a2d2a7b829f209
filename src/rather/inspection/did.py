"""Differential information (arXiv 2505.23761): what a preference data set teaches, as a distribution over responses.

A policy pi is a reference ref that has learned something. What it learned, the differential information distribution, is

    q(y) = (pi(y) / ref(y)) / sum over y' of pi(y') / ref(y'),        pi(y) ~ ref(y) q(y)

Its entropy tells whether a few responses were reinforced (low) or the policy was smoothed (high; log |Y| when nothing was
learned). Chosen responses are taken to come from the reference. Labels then carry exactly the step from ref to a target
pi* when the rejected ones come from pi_l(y) ~ ref(y) (ref(y) / pi*(y))^beta; DPO with that beta has pi* as its optimum.

Everything is in log space and in nats. Functions of finite sets take log-probabilities [..., N] over the last axis, which
need not be normalised. The estimator for sequences and the projected gradient are our reading; their names are the paper's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rather.data.types import Comparison
from rather.errors import UserError


def differential_information(policy: Tensor, reference: Tensor) -> Tensor:
    """[..., N] log q of a policy against a reference."""
    return (policy - reference).log_softmax(-1)


def entropy(log_q: Tensor) -> Tensor:
    """[...] entropy in nats of normalised log-probabilities [..., N]; a probability of 0 adds nothing."""
    return -torch.special.xlogy(log_q.exp(), log_q.exp()).sum(-1)


def optimal_rejected(target: Tensor, reference: Tensor, beta: float) -> Tensor:
    """[..., N] log-probabilities of the rejected responses under which labels carry the step from reference to target.

    pi_l ~ ref (ref / pi*)^beta: what the target is to unlearn. beta = 0 is the reference.
    """
    return (reference + beta * (reference - target)).log_softmax(-1)


def preference_probabilities(target: Tensor, reference: Tensor, beta: float) -> Tensor:
    """[..., N, N] probability that response i is preferred to j: sigma of beta times the difference of log-ratios."""
    ratio = beta * (target - reference)
    return torch.sigmoid(ratio[..., :, None] - ratio[..., None, :])


def kl_divergence(one: Tensor, other: Tensor) -> Tensor:
    """[...] KL(one || other) of distributions [..., N]."""
    one, other = one.log_softmax(-1), other.log_softmax(-1)
    return (one.exp() * (one - other)).sum(-1)


def jensen_shannon(one: Tensor, other: Tensor) -> Tensor:
    """[...] Jensen-Shannon divergence of distributions [..., N]: 0 to log 2."""
    one, other = one.log_softmax(-1), other.log_softmax(-1)
    middle = torch.logaddexp(one, other) - math.log(2.0)
    return ((one.exp() * (one - middle)).sum(-1) + (other.exp() * (other - middle)).sum(-1)) / 2


def displacement(policy: Tensor, reference: Tensor) -> Tensor:
    """[...] change of the mean log-probability of responses that come from the reference: E_ref[log pi - log ref].

    It is -KL(ref || pi), so it falls for every policy but the reference: chosen responses that lose probability are no
    fault of the optimiser.
    """
    return -kl_divergence(reference, policy)


@dataclass(frozen=True)
class OrderCheck:
    """Whether pairs fit labels that carry a step from reference to target.

    Attributes:
        ordered: [K] whether target, reference and rejected distribution order the pair's margins in one direction.
        beta: [K] the beta that each pair implies, negative where it is not ordered; infinite or NaN where the target
            has not moved. A single pair always fits some beta; that all imply the same one is the content.
    """

    ordered: Tensor
    beta: Tensor

    @property
    def share(self) -> float:
        return float(self.ordered.double().mean())

    @property
    def spread(self) -> tuple[float, float, float]:
        """Quartiles of beta over the ordered pairs; NaN without any."""
        of_ordered = self.beta[self.ordered].double()
        if not of_ordered.numel():
            return math.nan, math.nan, math.nan
        low, middle, high = torch.quantile(of_ordered, torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)).tolist()
        return low, middle, high


def order_check(target: Tensor, reference: Tensor, rejected: Tensor) -> OrderCheck:
    """From the margins [K] log p(y_w) - log p(y_l) of pairs under target, reference and rejected distribution.

    The power law holds for a pair with some beta > 0 if and only if m(target) - m(reference) and m(reference) -
    m(rejected) have one sign; beta is the second over the first.
    """
    learned, unlearned = target - reference, reference - rejected
    return OrderCheck((learned.sign() == unlearned.sign()) & (learned != 0), unlearned / learned)


@dataclass(frozen=True)
class EntropyEstimate:
    """Entropy of the differential information from samples. All [...], in nats.

    Attributes:
        entropy: the estimate; biased and heavy-tailed, may be negative or above log |Y|.
        log_normaliser: log of sum over y of pi(y) / ref(y), estimated.
        ess: effective number of samples; near 1 the estimate rests on a single one and is not to be trusted.
    """

    entropy: Tensor
    log_normaliser: Tensor
    ess: Tensor


def estimate_entropy(policy: Tensor, reference: Tensor, sampler: Tensor) -> EntropyEstimate:
    """Self-normalised importance sampling of the entropy of q, from K samples a prompt.

    Args:
        policy, reference, sampler: [..., K] log-probabilities of the samples under policy and reference, and under what
            they were drawn from (one of the two, as a rule). Those of ``sampler`` are normalised.
    """
    ratio = policy - reference
    weight = ratio - sampler
    log_normaliser = weight.logsumexp(-1) - math.log(weight.shape[-1])
    share = weight.log_softmax(-1)
    estimate = -(share.exp() * (ratio - log_normaliser[..., None])).sum(-1)
    return EntropyEstimate(estimate, log_normaliser, (-(2 * share).logsumexp(-1)).exp())


def project_rejected(rejected: Tensor, chosen: Tensor) -> Tensor:
    """The rejected log-probability's gradient [P], without its part along the chosen one's (DPO-PG).

    Ascending ``chosen - project_rejected(rejected, chosen)`` cannot lower the chosen log-probability to first order: it
    changes it by |chosen|^2 >= 0, or by more where the two gradients already point apart.
    """
    along = (rejected @ chosen).clamp(min=0)
    norm = chosen @ chosen
    return rejected - along / torch.where(norm > 0, norm, 1.0) * chosen


def projected_direction(chosen: Tensor, rejected: Tensor, margin: Tensor, beta: float) -> Tensor:
    """[P] ascent direction of DPO-PG for one pair: beta sigma(-beta h) (g_w - projected g_l), h the log-ratio margin."""
    return beta * torch.sigmoid(-beta * margin) * (chosen - project_rejected(rejected, chosen))


def sample_rejected(target: Tensor, reference: Tensor, beta: float, count: int, random: torch.Generator) -> Tensor:
    """[count] indices of rejected responses, drawn from ``optimal_rejected`` of distributions [N]."""
    return torch.multinomial(optimal_rejected(target, reference, beta).exp(), count, True, generator=random)


def redraw_rejected(
    comparisons: Sequence[Comparison], target: Tensor, reference: Tensor, beta: float, seed: int
) -> list[Comparison]:
    """Comparisons of a tabular world with rejected responses under which labels carry the step to a known target.

    Each losing response is drawn anew by ``sample_rejected`` from its prompt's row. A draw may equal the winner; such an
    edge teaches nothing, and is part of the distribution.

    Args:
        comparisons: prompts and responses are integers, indices of rows and columns.
        target, reference: [prompts, N] log-probabilities.

    Raises:
        UserError: a prompt that is no row.
    """
    losers = [sorted({edge.loser for edge in comparison.edges}) for comparison in comparisons]
    needed: dict[int, int] = {}
    for comparison, own in zip(comparisons, losers, strict=True):
        row = comparison.prompt
        if not isinstance(row, int) or not 0 <= row < len(target):
            where = str(comparison.source or comparison.id)
            raise UserError(f"its prompt is no row of a table of {len(target)}", where=where)
        needed[row] = needed.get(row, 0) + len(own)
    random = torch.Generator().manual_seed(seed)
    drawn = {
        row: iter(sample_rejected(target[row], reference[row], beta, count, random).tolist() if count else ())
        for row, count in sorted(needed.items())
    }
    made: list[Comparison] = []
    for comparison, own in zip(comparisons, losers, strict=True):
        fresh = {loser: next(drawn[comparison.prompt]) for loser in own}
        responses = tuple(fresh.get(index, response) for index, response in enumerate(comparison.responses))
        made.append(replace(comparison, responses=responses))
    return made
