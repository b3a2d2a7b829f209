"""Contrasts of auxiliary responses: one response under two prompts, or two margins under two prompts."""

from __future__ import annotations

from torch import nn
from torch.nn.functional import logsigmoid

from rather.data.types import Role
from rather.objectives.outcome import Term
from rather.objectives.scores import Layout, Reduction, Scores, reduce_elements, segment_sum


class Contrast(nn.Module):
    """-log sigma(beta * sum over a group of sign * rho), a mean over the groups of one role.

    rho is the log-ratio to the reference, or the score itself. Signs (+, -) over one response and two prompts make
    p(x_w > x_l | y) of response-conditioned Bradley-Terry (arXiv 2502.00814); signs (+, -, -, +) over (x_a, y_w),
    (x_a, y_l), (x_b, y_w), (x_b, y_l) make a difference of two margins, in which whatever depends on the prompt alone or
    on the response alone cancels (IOPO, arXiv 2411.06208).

    Args:
        coefficient: factor on the mean.
        beta: scale of rho.
        reduce: from elements to a response score.
        needs_reference: subtract the reference's score (detached).
    """

    def __init__(
        self, role: Role, coefficient: float, *, beta: float, reduce: Reduction = "sum", needs_reference: bool = True
    ) -> None:
        super().__init__()
        self.role: Role = role
        self.coefficient, self.beta, self.needs_reference = coefficient, beta, needs_reference
        self.reduce: Reduction = reduce
        self.needs_lengths = reduce == "mean"

    def forward(self, policy: Scores, reference: Scores | None, layout: Layout) -> Term:
        found = layout.auxiliary.of_role(self.role)
        rho = reduce_elements(policy, layout.lengths, self.reduce)
        if self.needs_reference:
            if reference is None:
                raise ValueError("this contrast compares with a reference; pass its scores")
            rho = rho - reduce_elements(reference.detach(), layout.lengths, self.reduce).to(rho)
        margin = self.beta * segment_sum(found.sign.to(rho) * rho[found.response], found.group, found.groups)
        losses = -logsigmoid(margin)
        seen = {"loss": losses.detach(), "accuracy": (margin.sign().detach() + 1) / 2}
        return Term(self.role, losses, self.role, self.coefficient, seen)
