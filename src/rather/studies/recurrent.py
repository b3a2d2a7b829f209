"""A small recurrent language model for studies, and its scores as objectives see them."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from rather.objectives.base import Objective
from rather.objectives.scores import Layout, Scores


class Recurrent(nn.Module):
    """A GRU over tokens; with ``condition`` inputs, also over a vector that is shown at every step.

    Args:
        words: size of the vocabulary; one more embedding stands for the start of a text.
        condition: size of the vector; 0: none.
    """

    def __init__(self, words: int, width: int, layers: int = 1, condition: int = 0) -> None:
        super().__init__()
        self.start = words
        self.embedding = nn.Embedding(words + 1, width)
        self.condition = nn.Linear(condition, width) if condition else None
        self.body = nn.GRU(width, width, layers, batch_first=True)
        self.head = nn.Linear(width, words)

    def states(self, tokens: Tensor, given: Tensor | None = None) -> Tensor:
        """[N, T, D] state from which each token [N, T] is predicted."""
        shifted = torch.cat([tokens.new_full((len(tokens), 1), self.start), tokens[:, :-1]], 1)
        inputs = self.embedding(shifted)
        if self.condition is not None and given is not None:
            inputs = inputs + self.condition(given)[:, None]
        return self.body(inputs)[0]

    def forward(self, tokens: Tensor, given: Tensor | None = None) -> Tensor:
        """[N, T, V] log-probabilities of the token at each place."""
        return self.head(self.states(tokens, given)).log_softmax(-1)

    @torch.no_grad()
    def sample(self, number: int, length: int, random: torch.Generator) -> Tensor:
        """[N, T] texts."""
        token = torch.full((number, 1), self.start)
        state, drawn = None, []
        for _ in range(length):
            out, state = self.body(self.embedding(token), state)
            token = torch.multinomial(self.head(out[:, 0]).softmax(-1), 1, generator=random)
            drawn.append(token)
        return torch.cat(drawn, 1)


def token_scores(logps: Tensor, tokens: Tensor, extras: dict[str, Tensor] | None = None) -> Scores:
    """Scores of texts [N, T], one response each, from [N, T, V] log-probabilities; extras [N, T, ...] of each token."""
    number, length = tokens.shape
    response = torch.arange(number).repeat_interleave(length)
    flat = {name: values.flatten(0, 1) for name, values in (extras or {}).items()}
    return Scores(logps.gather(2, tokens[..., None]).flatten(), response, flat)


def divergence(reference: Tensor, policy: Tensor) -> Tensor:
    """[N, T] KL(reference || policy) from log-probabilities [N, T, V]."""
    return (reference.exp() * (reference - policy)).sum(-1)


def likelihood_steps(model: nn.Module, loss: Callable[[], Tensor], steps: int, rate: float) -> None:
    """Adam on a loss that is drawn anew at each step."""
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], rate)
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()


def align(
    reference: Recurrent,
    objective: Objective,
    scores: Callable[[Recurrent, Tensor], tuple[Scores, Scores]],
    *,
    pairs: int,
    length: int,
    steps: int,
    batch: int,
    rate: float,
    random: torch.Generator,
) -> Recurrent:
    """A copy of ``reference``, trained with the objective's own parameters.

    Args:
        scores: (policy, indices of pairs [B]) -> scores of policy and reference, the B preferred texts first.
        pairs, length: number of pairs, and of tokens of each text.
    """
    policy = copy.deepcopy(reference).requires_grad_(True)
    size = torch.full((batch,), length)
    layout = Layout.of_pairs(size, size)
    optimizer = torch.optim.Adam([*policy.parameters(), *objective.parameters()], rate)
    for _ in range(steps):
        which = torch.randint(pairs, (batch,), generator=random)
        optimizer.zero_grad()
        objective(*scores(policy, which), layout).loss(layout.counts()).backward()
        optimizer.step()
    return policy
