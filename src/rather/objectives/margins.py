"""How the two ends of an edge are matched, and which margin is asked of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from rather.objectives.parts import Seen
from rather.objectives.scores import Layout


class Matched(nn.Module):
    """Each edge compares its own winner with its own loser."""

    couples_batch = False
    """Whether the loss of one edge depends on the others of its micro-batch."""

    def forward(self, policy: Tensor, reference: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
        """Policy and reference response scores [R] to the unscaled log-ratios (win [K], lose [K])."""
        ratio = policy - reference
        return ratio[layout.winner], ratio[layout.loser]


class Inverted(Matched):
    """Each edge with its ends exchanged: what was preferred is taken to be the worse one.

    Teaches a negative model (Diffusion-NPO, arXiv 2505.11245): the margin is minus that of ``Matched``. Label models and
    offsets see the exchanged edge.
    """

    def forward(self, policy: Tensor, reference: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
        win, lose = super().forward(policy, reference, layout)
        return lose, win


class AnchorFlipped(Matched):
    """The loser's log-ratio counts with a sign that the winner's decides: +1 where the policy scores the winner at least
    as well as the reference does, ``otherwise`` elsewhere (SePPO, arXiv 2410.05255).

    The winner is known to be good (an anchor), the other response is a sample of the reference. A reference that scores
    the anchor better than the policy is presumed to sample better too: with -1 its sample is then drawn in, with 0 left
    out. The sign carries no gradient and is one for each edge; a tie counts as +1, so that a policy that is its
    reference starts as DPO does.

    Args:
        otherwise: -1, 0, or 1 (never a flip).
    """

    def __init__(self, otherwise: float = -1.0) -> None:
        super().__init__()
        self.otherwise = otherwise

    def forward(self, policy: Tensor, reference: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
        win, lose = super().forward(policy, reference, layout)
        ahead = win.detach() >= 0
        return win, torch.where(ahead, lose, self.otherwise * lose)

    def report(self, seen: Seen) -> Mapping[str, Tensor]:
        """``flipped``: share of the edges whose reference scores the winner better."""
        return {"flipped": (seen.pair.win < 0).to(seen.pair.win)}


def by_rank(values: Tensor, like: Tensor) -> Tensor:
    """``values`` [K] rearranged so that entry k has the rank among ``values`` that ``like[k]`` has among ``like`` [K].

    Both vectors sorted and compared position by position give the same pairs; this keeps the order of ``like``, so
    that losses and weights stay with their edges.
    """
    order = like.detach().argsort(stable=True)
    return torch.empty_like(values).index_put((order,), values.sort(stable=True).values)


class SortedMargins(Matched):
    """AOT, paired (arXiv 2406.05882): each edge's policy margin against the reference margin of the same rank.

    Ranks are taken in the micro-batch. The pair is (policy margin, reference margin), in the order of the edges.
    """

    couples_batch = True

    def forward(self, policy: Tensor, reference: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
        of_policy = policy[layout.winner] - policy[layout.loser]
        of_reference = reference[layout.winner] - reference[layout.loser]
        return of_policy, by_rank(of_reference, of_policy)


class SortedResponses(Matched):
    """AOT, unpaired (arXiv 2406.05882): each winner's log-ratio against the loser's log-ratio of the same rank.

    Ranks are taken in the micro-batch. The pairs are in the order of the winners' edges.
    """

    couples_batch = True

    def forward(self, policy: Tensor, reference: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
        win, lose = super().forward(policy, reference, layout)
        return win, by_rank(lose, win)


class Offset(nn.Module):
    """The margin asked of an edge, in the unit of the scaled reward: constant + ``scale`` times the data's + more.

    A margin is a target: it never carries gradient, whatever it is made of.

    Args:
        constant: asked of every edge.
        scale: factor on the data's margin column; an edge without one counts as 0.
        margins: further ones, with the same signature as this.
    """

    def __init__(self, constant: float = 0.0, scale: float = 0.0, margins: Iterable[nn.Module] = ()) -> None:
        super().__init__()
        self.constant, self.scale = constant, scale
        self.margins = nn.ModuleList(margins)

    def forward(self, policy: Tensor, reference: Tensor, layout: Layout) -> Tensor:
        """[K] from the response scores [R] of both (detached; the reference's are 0 where there is none)."""
        total = self.constant + self.scale * torch.nan_to_num(layout.margin, nan=0.0).to(policy)
        for margin in self.margins:
            total = total + margin(policy, reference, layout)
        return total


class InverseLengthGap(nn.Module):
    """beta (1/|y_l| - 1/|y_w|): what is left of the bare weights in POWER's margin (arXiv 2412.09544), our reading.

    Differentiating the weighted entropy w p log p leaves beta (w_w - w_l) beside the weighted log-probabilities; with
    w = 1/|y| a longer winner is asked for more. An empty response counts as one element.
    """

    def __init__(self, beta: float) -> None:
        super().__init__()
        self.beta = beta

    def forward(self, policy: Tensor, reference: Tensor, layout: Layout) -> Tensor:
        inverse = 1 / layout.lengths.clamp(min=1).to(policy)
        return self.beta * (inverse[layout.loser] - inverse[layout.winner])


def _gap(scores: Tensor, layout: Layout) -> Tensor:
    return scores[layout.winner] - scores[layout.loser]


class ClippedReference(nn.Module):
    """beta max(0, -d), d the reference's margin: its log-ratio is beta (d_policy - max(0, d)), so that a reference that
    orders an edge wrongly counts as undecided (E-CPO's ``clip``, arXiv 2605.20834, as released)."""

    def __init__(self, beta: float) -> None:
        super().__init__()
        self.beta = beta

    def forward(self, policy: Tensor, reference: Tensor, layout: Layout) -> Tensor:
        return self.beta * torch.relu(-_gap(reference, layout))


class SoftplusReference(nn.Module):
    """scale / tau softplus(tau (gamma - d)), d the reference's margin: near 0 where the reference orders an edge right
    by more than gamma, about scale (gamma - d) where it does not (arXiv 2605.20834, as released)."""

    def __init__(self, scale: float, gamma: float, tau: float) -> None:
        super().__init__()
        self.scale, self.gamma, self.tau = scale, gamma, tau

    def forward(self, policy: Tensor, reference: Tensor, layout: Layout) -> Tensor:
        return self.scale / self.tau * softplus(self.tau * (self.gamma - _gap(reference, layout)))


class InverseProbabilities(nn.Module):
    """gamma (exp(-r_w) + exp(-r_l)), r the reference's scores (arXiv 2605.20834 eq. 17; with mean log-probabilities,
    our reading). Exponents are capped at 40: a score below -40 asks for no more."""

    CAP = 40.0

    def __init__(self, gamma: float) -> None:
        super().__init__()
        self.gamma = gamma

    def forward(self, policy: Tensor, reference: Tensor, layout: Layout) -> Tensor:
        inverse = torch.exp((-reference).clamp(max=self.CAP))
        return self.gamma * (inverse[layout.winner] + inverse[layout.loser])


class InverseLogProbabilities(nn.Module):
    """gamma (1/r_w + 1/r_l), r the reference's scores: the ``easy`` margin of arXiv 2605.20834's released code.

    Log-probabilities are negative, so it asks for less where the theory asks for more. A score within eps of 0 counts
    as -eps, so that it stays finite.
    """

    def __init__(self, gamma: float) -> None:
        super().__init__()
        self.gamma = gamma

    def forward(self, policy: Tensor, reference: Tensor, layout: Layout) -> Tensor:
        inverse = 1 / reference.clamp(max=-torch.finfo(reference.dtype).eps)
        return self.gamma * (inverse[layout.winner] + inverse[layout.loser])
