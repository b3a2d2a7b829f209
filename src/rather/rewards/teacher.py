"""Language models as judges, without training: how likely they find an answer, or which of two they name.

a_i = mean token log-probability of y_i                                                       ``likelihood:MODEL``
c_i = log((eps + sum_{j != i} (eps + p(i named | i, j))) / (n - 1))                           ``choice:MODEL``
t_i = alpha a_i + (1 - alpha) c_i                                                             ``choice:MODEL?alpha=0.5``

The teacher scores of preference-aligned distillation (arXiv 2502.14272). The wording of the question is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field

from rather.data.fields import text_of
from rather.data.types import Comparison, Prompt, Response
from rather.errors import UserError
from rather.objectives.scores import reduce_elements
from rather.policies.language import LanguagePolicy
from rather.policies.rendering import prompt_text
from rather.rewards.base import Judge
from rather.rewards.opening import next_logits, open_language_model
from rather.worlds.query import QueryOptions, read_options, split_query

EPSILON = 1e-8

QUESTION = """Here is a conversation and two responses to it.

Conversation:
{prompt}

Response A:
{a}

Response B:
{b}

Which response is better? Answer with the letter A or B, or with None if neither is good."""


def choice_scores(named: np.ndarray, *, epsilon: float = EPSILON, least: float = 0.0) -> np.ndarray:
    """[n] log of the mean probability with which each response was named, from ``named`` [n, n].

    Args:
        named: [i, j] probability that i was named when i and j were shown; the diagonal is not read.
        epsilon: added to each probability and to each sum, as in the released code.
        least: floor of the means; a teacher that names nobody otherwise gives a logarithm that is mostly noise.
    """
    count = len(named)
    sums = np.where(np.eye(count, dtype=bool), 0.0, named + epsilon).sum(1)
    return np.log(np.maximum((epsilon + sums) / max(count - 1, 1), least))


class Likelihood(Judge):
    """Mean log-probability of the response's tokens under a language model, in nats."""

    def __init__(self, policy: LanguagePolicy, name: str) -> None:
        self.policy, self.name = policy, name

    @torch.no_grad()
    def score(self, prompt: Prompt, responses: Sequence[Response]) -> np.ndarray:
        """
        Raises:
            UserError: the responses cannot be encoded.
        """
        encoded = self.policy.encode([Comparison("judged", prompt, tuple(responses))])
        if not encoded:
            reason = next(iter(self.policy.report.dropped), "nothing is left of it")
            raise UserError(f"the responses cannot be judged: {reason}", where=self.name)
        batch = self.policy.collate(encoded).to(next(self.policy.network.parameters()).device)
        scores = self.policy.score(self.policy.network, batch, None)
        return reduce_elements(scores, batch.layout.lengths, "mean").double().cpu().numpy()


class Choice(Judge):
    """A language model is shown every two responses as options A and B and asked for the better one.

    What counts is the probability of the answer's first token being the letter (alone, whatever blanks surround it).

    Args:
        both_orders: ask twice, the options exchanged, and average, so that a liking for A cancels.
        alpha: share of the mean log-probability in the score.
        most: tokens of each response that are shown.
    """

    def __init__(
        self, policy: LanguagePolicy, name: str, *, both_orders: bool = True, alpha: float = 0.0, most: int = 2500
    ) -> None:
        self.policy, self.name = policy, name
        self.both_orders, self.alpha, self.most = both_orders, alpha, most
        self.likelihood = Likelihood(policy, name)
        self._letters = {letter: _tokens_of(policy.tokenizer, letter) for letter in "AB"}

    def score(self, prompt: Prompt, responses: Sequence[Response]) -> np.ndarray:
        """See ``choice_scores``."""
        found = choice_scores(self.named(prompt, responses))
        if self.alpha:
            found = self.alpha * self.likelihood.score(prompt, responses) + (1 - self.alpha) * found
        return found

    def named(self, prompt: Prompt, responses: Sequence[Response]) -> np.ndarray:
        """[n, n] probability that i is named when i and j are shown; rows and columns need not add up to 1."""
        count = len(responses)
        table = np.zeros((count, count))
        texts = [self._shown(response) for response in responses]
        for i in range(count):
            for j in range(i + 1, count):
                of_i, of_j = self._ask(prompt, texts[i], texts[j])
                if self.both_orders:
                    j_as_a, i_as_b = self._ask(prompt, texts[j], texts[i])
                    of_i, of_j = (of_i + i_as_b) / 2, (of_j + j_as_a) / 2
                table[i, j], table[j, i] = of_i, of_j
        return table

    def _shown(self, response: Response) -> str:
        tokenizer = self.policy.tokenizer
        ids = tokenizer(text_of(response), add_special_tokens=False)["input_ids"]
        return text_of(response) if len(ids) <= self.most else str(tokenizer.decode(ids[: self.most]))

    @torch.no_grad()
    def _ask(self, prompt: Prompt, a: str, b: str) -> tuple[float, float]:
        """Probabilities of the letters A and B."""
        with self.policy.sampling():
            logits = next_logits(self.policy, QUESTION.format(prompt=prompt_text(prompt), a=a, b=b), cue="\nAnswer:")
        probabilities = logits.softmax(-1)
        return float(probabilities[self._letters["A"]].sum()), float(probabilities[self._letters["B"]].sum())


def _tokens_of(tokenizer: Any, letter: str) -> list[int]:
    """Ids of the tokens that are this letter and nothing else, but for blanks."""
    found = [i for i in range(len(tokenizer)) if str(tokenizer.decode([i])).strip() == letter]
    if not found:
        raise UserError(
            f"the model has no token for the letter {letter}", where="judge choice", fix="use likelihood:MODEL"
        )
    return found


class ChoiceOptions(QueryOptions):
    """Keys of the query in ``choice:MODEL?alpha=0.5``."""

    orders: Literal["both", "single"] = Field("both", description="ask with the options in both orders, or in one")
    alpha: float = Field(0.0, ge=0, le=1, description="share of the mean log-probability in the score")


def open_likelihood(rest: str) -> Likelihood:
    """``likelihood:MODEL``."""
    return Likelihood(_policy(rest, "likelihood"), f"likelihood:{rest}")


def open_choice(rest: str) -> Choice:
    """``choice:MODEL?orders=single&alpha=0.5``."""
    name, values = split_query(rest, f"choice:{rest}")
    options = read_options(ChoiceOptions, values, f"choice:{rest}")
    policy = _policy(name, "choice")
    return Choice(policy, f"choice:{rest}", both_orders=options.orders == "both", alpha=options.alpha)


def _policy(model: str, kind: str) -> LanguagePolicy:
    if not model:
        raise UserError("needs a language model", where=f"judge {kind}", fix=f"write {kind}:MODEL")
    return open_language_model(model)
