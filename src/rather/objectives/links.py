"""Links: the loss of one edge as a function of its scaled rewards.

A link sees a ``Pair``: the winner's and the loser's scaled reward (beta times the log-ratio) and an offset. Most links
depend on the margin ``z = win - lose - offset`` alone (``MarginLink``); some treat the two sides apart. Exchanging the
two labels is ``pair.swap()``, which is all that a label model needs, so every label model works with every link.
All are elementwise: [K] in, [K] out; nothing is averaged here.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, softplus


class Pair(NamedTuple):
    """Scaled rewards of both ends of each edge, and the margin that is asked for. All [K]."""

    win: Tensor
    lose: Tensor
    offset: Tensor

    @property
    def margin(self) -> Tensor:
        return self.win - self.lose - self.offset

    def swap(self) -> Pair:
        return Pair(self.lose, self.win, -self.offset)


class Link(nn.Module):
    """Loss of an edge from its pair of scaled rewards."""

    def forward(self, pair: Pair) -> Tensor:
        raise TypeError(f"{type(self).__name__} does not define forward")


class MarginLink(Link):
    """A link that depends on the margin alone; subclasses give the curve."""

    def curve(self, z: Tensor) -> Tensor:
        raise TypeError(f"{type(self).__name__} does not define curve")

    def forward(self, pair: Pair) -> Tensor:
        return self.curve(pair.margin)


class Logistic(MarginLink):
    """-log sigma(z): Bradley-Terry likelihood (DPO, arXiv 2305.18290 eq. 7)."""

    def curve(self, z: Tensor) -> Tensor:
        return -logsigmoid(z)


class Hinge(MarginLink):
    """max(0, 1 - z): SLiC-HF (arXiv 2305.10425) in the RSO form (arXiv 2309.06657)."""

    def curve(self, z: Tensor) -> Tensor:
        return torch.relu(1 - z)


class Square(MarginLink):
    """(z - target)^2 / beta^2: with target 1/2 and z = beta h IPO's (h - 1/(2 beta))^2 (arXiv 2310.12036 eq. 17)."""

    def __init__(self, beta: float, target: float = 0.5) -> None:
        super().__init__()
        self.beta, self.target = beta, target

    def curve(self, z: Tensor) -> Tensor:
        return ((z - self.target) / self.beta) ** 2


class Sigmoid(MarginLink):
    """1 - sigma(z): bounded; what KTO (arXiv 2402.01306 eq. 8) applies to each response."""

    def curve(self, z: Tensor) -> Tensor:
        return torch.sigmoid(-z)


class Polynomial(MarginLink):
    """-log p + alpha (1 - p), p = sigma(z): Poly-DPO (arXiv 2604.24953). Gradient -(1 - p)(1 + alpha p)."""

    def __init__(self, alpha: float) -> None:
        super().__init__()
        self.alpha = alpha

    def curve(self, z: Tensor) -> Tensor:
        # sigmoid(-z) and not 1 - sigmoid(z), which is 0 beyond z = 17 in float32.
        return -logsigmoid(z) + self.alpha * torch.sigmoid(-z)


class LogRatioModulated(MarginLink):
    """DiscoPOP (arXiv 2406.08414 eq. 5): (1 - m) (-log sigma(z)) + m exp(-z) with m = sigma(z / temperature).

    For a temperature up to 1 it is bounded as z -> -inf (m falls faster than exp(-z) grows); above 1 it diverges
    exponentially there.
    """

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def curve(self, z: Tensor) -> Tensor:
        modulation = z / self.temperature
        # m exp(-z) as one exponential: the two factors alone under- and overflow.
        exponential = torch.exp(logsigmoid(modulation) - z)
        return -logsigmoid(z) * torch.sigmoid(-modulation) + exponential


class ReverseKL(MarginLink):
    """EXO on a pair (arXiv 2402.00856 eq. 16): KL from the policy's two-way distribution to the label (1-eps, eps)."""

    def __init__(self, smoothing: float) -> None:
        super().__init__()
        self.smoothing = smoothing

    def curve(self, z: Tensor) -> Tensor:
        log_win, log_lose = logsigmoid(z), logsigmoid(-z)
        to_win = torch.sigmoid(z) * (log_win - math.log1p(-self.smoothing))
        return to_win + torch.sigmoid(-z) * (log_lose - math.log(self.smoothing))


class NoiseContrastive(Link):
    """NCA on a pair (arXiv 2402.05369): -log sigma(w) - 1/2 log sigma(-w) - 1/2 log sigma(-l)."""

    def forward(self, pair: Pair) -> Tensor:
        return softplus(-pair.win) + 0.5 * softplus(pair.win) + 0.5 * softplus(pair.lose)


class SelfPlaySquare(Link):
    """SPPO with hard labels (arXiv 2405.00675 eq. 4.1): ((w - 1/2)^2 + (l + 1/2)^2) / beta^2."""

    def __init__(self, beta: float) -> None:
        super().__init__()
        self.beta = beta

    def forward(self, pair: Pair) -> Tensor:
        return ((pair.win - 0.5) / self.beta) ** 2 + ((pair.lose + 0.5) / self.beta) ** 2


class AnchoredZero(Link):
    """APO-zero (arXiv 2408.06266 eq. 7): 1 - sigma(w) + sigma(l); raises the winner, lowers the loser."""

    def forward(self, pair: Pair) -> Tensor:
        return torch.sigmoid(-pair.win) + torch.sigmoid(pair.lose)


class AnchoredDown(Link):
    """APO-down (arXiv 2408.06266 eq. 8): sigma(w) + 1 - sigma(w - l); lowers both, the loser more."""

    def forward(self, pair: Pair) -> Tensor:
        return torch.sigmoid(pair.win) + torch.sigmoid(-pair.margin)
