"""Regression on the ratings of a group: K responses to a prompt, each with a value that its log-ratio is to follow."""

from __future__ import annotations

from torch import Tensor

from rather.errors import UserError
from rather.objectives.base import Objective
from rather.objectives.listwise import mean_by_list
from rather.objectives.outcome import Outcome, Term
from rather.objectives.scores import Layout, Reduction, Scores, reduce_elements, segment_sum


def ratings(layout: Layout, rows: Tensor) -> Tensor:
    """[N] ratings of the responses ``rows`` [N].

    Raises:
        UserError: one of them has none.
    """
    values = layout.value[rows]
    if bool(values.isnan().any()):
        fix = "give every response a score: columns responses and scores (rather sample writes them)"
        raise UserError("needs the score of every response, and some have none", where="scores", fix=fix)
    return values


def group_mean(values: Tensor, group: Tensor, groups: int) -> Tensor:
    """[groups] means of values [N] by group [N]; 0 for an empty one."""
    count = segment_sum(values.new_ones(values.shape), group, groups)
    return segment_sum(values, group, groups) / count.clamp(min=1)


def group_weight(layout: Layout) -> Tensor:
    """[C] weight of each comparison: the mean of its edges' weights, 1 where it has no edges."""
    ones = layout.weight.new_ones(layout.weight.shape)
    return mean_by_list(layout.weight, layout) + (1 - mean_by_list(ones, layout))


class GroupRegression(Objective):
    """(rho_i / |y_i|^gamma - (v_i - mean v) / beta)^2, averaged over responses: log-ratios follow ratings.

    rho is the log-ratio to the reference, summed over elements; v the rating of the data (``Layout.value``), measured
    from the mean over the response's group, which is what a policy can follow without moving all responses of a prompt
    at once. For a skew-symmetric judge's mean scores, and for mean win probabilities, that mean is 0 or 1/2 whatever
    the responses are; so GPO and SPPO are this with their ratings. No log Z is subtracted, as in both papers. A
    comparison's weight, if the data has one, multiplies its responses' terms. ``per_edge`` is the mean over each
    comparison [C]; the implicit reward is beta rho.

    Args:
        beta: scale of the implicit reward.
        gamma: power of the length that the log-ratio is divided by; 0 for none.
        reduce: from elements to a response score.
        centred: measure ratings from the group's mean; without it they are taken as they are.
    """

    def __init__(self, *, beta: float, gamma: float = 0.0, reduce: Reduction = "sum", centred: bool = True) -> None:
        super().__init__()
        self.beta, self.gamma, self.centred = beta, gamma, centred
        self.reduce: Reduction = reduce
        self.needs_lengths = gamma > 0 or reduce == "mean"

    def forward(self, policy: Scores, reference: Scores | None, layout: Layout) -> Outcome:
        """
        Raises:
            UserError: a response has no rating.
        """
        if reference is None:
            raise ValueError("this objective compares with a reference; pass its scores")
        of_policy = reduce_elements(policy, layout.lengths, self.reduce)
        of_reference = reduce_elements(reference.detach(), layout.lengths, self.reduce)
        ratio = of_policy - of_reference.to(of_policy)
        rows = layout.compared.nonzero().flatten()
        group, value = layout.prompt[rows], ratings(layout, rows).to(ratio)
        if self.centred:
            value = value - group_mean(value, group, layout.lists)[group]
        length = layout.lengths[rows].clamp(min=1).to(ratio)
        error = (ratio[rows] / length**self.gamma - value / self.beta) ** 2
        rewards = (self.beta * ratio).detach()
        return Outcome(
            terms=(Term("regression", error * group_weight(layout).to(error)[group], "responses"),),
            rewards=rewards,
            margins=rewards[layout.winner] - rewards[layout.loser],
            per_edge=group_mean(error, group, layout.lists),
            logps=segment_sum(policy.elements.detach(), policy.response, layout.responses),
        )
