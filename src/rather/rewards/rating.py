"""A language model rates prompts: is this a meaningful, harmless thing to ask for?

The rating is the mean of the digits 0 to 9 under the model's next-token distribution, over 9: in [0, 1], without ties. The
wording is ours, and so is taking the mean instead of one sampled digit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from rather.data.types import Prompt
from rather.errors import UserError
from rather.policies.language import LanguagePolicy
from rather.policies.rendering import prompt_text
from rather.rewards.opening import next_logits

QUESTION = """Rate this request as a prompt for a generative model: is it clear, meaningful and complete? Does it ask for
nothing harmful?

Request:
{prompt}

Answer with one digit from 0 (meaningless or harmful) to 9 (clear, meaningful and harmless)."""


class PromptRater:
    """Rates prompts by the probabilities of digits.

    Args:
        policy: the language model that is asked.
    """

    def __init__(self, policy: LanguagePolicy, name: str) -> None:
        self.policy, self.name = policy, name
        tokenizer: Any = policy.tokenizer
        by_text = {str(tokenizer.decode([token])).strip(): token for token in reversed(range(len(tokenizer)))}
        if missing := [digit for digit in "0123456789" if digit not in by_text]:
            raise UserError(
                f"the model has no token for the digit {missing[0]}",
                where=f"--rater {name}",
                fix="choose another model",
            )
        self._digits = torch.tensor([by_text[digit] for digit in "0123456789"])

    @torch.no_grad()
    def rate(self, prompts: Sequence[Prompt]) -> list[float]:
        """[n] in [0, 1]."""
        found = []
        with self.policy.sampling():
            for prompt in prompts:
                logits = next_logits(self.policy, QUESTION.format(prompt=prompt_text(prompt)), cue="\nAnswer: ")
                digits = logits[self._digits.to(logits.device)].softmax(-1)
                found.append(float(digits @ torch.arange(10, dtype=torch.float64, device=logits.device)) / 9)
        return found
