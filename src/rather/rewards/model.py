"""A trained reward model as a judge."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from rather.data.types import Comparison, Prompt, Response
from rather.errors import UserError
from rather.objectives.embedding import EMBEDDING, GATE, score_table
from rather.objectives.scores import Scores
from rather.policies.device import inference_device
from rather.policies.reward import PREFIX, SPEC, RewardPolicy, open_reward
from rather.policies.settings import PolicySettings
from rather.rewards.base import TRAINED_BY, Judge, sigmoid


class RewardJudge(Judge):
    """A reward model; with embeddings, ``score`` is the mean score against the responses that are shown together.

    All responses to a prompt go through the model at once, and n embeddings cost n forward passes, not n^2.

    Args:
        policy: the reward model.
        scale: factor from a difference of scores to log-odds: 1 / tau of its training.
        name: its folder.
    """

    def __init__(self, policy: RewardPolicy, *, scale: float = 1.0, name: str = "reward model") -> None:
        self.policy, self.scale, self.name = policy, scale, name
        policy.network.eval()

    def score(self, prompt: Prompt, responses: Sequence[Response]) -> np.ndarray:
        """
        Raises:
            UserError: the responses cannot be encoded (too long, or empty).
        """
        found = self._scores(prompt, responses)
        if EMBEDDING in found.extras:
            return self._table(found).mean(1)
        return found.elements.double().cpu().numpy()

    def group(self, prompt: Prompt, responses: Sequence[Response]) -> np.ndarray:
        """See ``score``."""
        found = self._scores(prompt, responses)
        if EMBEDDING in found.extras:
            return self._table(found)
        rewards = found.elements.double().cpu().numpy()
        return rewards[:, None] - rewards[None, :]

    def probability(self, preference: float) -> float:
        return sigmoid(self.scale * preference)

    @torch.no_grad()
    def _scores(self, prompt: Prompt, responses: Sequence[Response]) -> Scores:
        encoded = self.policy.encode([Comparison("judged", prompt, tuple(responses))])
        if not encoded:
            reason = next(iter(self.policy.report.dropped), "nothing is left of it")
            raise UserError(f"the responses cannot be judged: {reason}", where=self.name)
        batch = self.policy.collate(encoded).to(next(self.policy.network.parameters()).device)
        return self.policy.score(self.policy.network, batch, None)

    @staticmethod
    def _table(found: Scores) -> np.ndarray:
        gate = found.extras[GATE][0].double() if GATE in found.extras else None  # one prompt, so one gate
        return score_table(found.extras[EMBEDDING].double(), gate).cpu().numpy()


def open_folder(folder: Path) -> RewardJudge:
    """The reward model in a folder, or in the ``model`` folder of a run.

    Raises:
        UserError: there is none.
    """
    at = folder if (folder / SPEC).is_file() else folder / "model"
    if not (at / SPEC).is_file():
        fix = "give the model folder of a run of rather fit-reward"
        raise UserError(f"holds no reward model (no {SPEC})", where=str(folder), fix=fix)
    policy = open_reward(PolicySettings.model_validate({"model": f"{PREFIX}{at}"}))
    policy.network.to(inference_device())
    return RewardJudge(policy, scale=_scale(at, policy), name=str(folder))


def _scale(folder: Path, policy: RewardPolicy) -> float:
    """1 / tau of the training; that of the method's default where the folder does not say."""
    try:
        options = json.loads((folder / TRAINED_BY).read_text(encoding="utf-8"))["options"]
    except (OSError, ValueError, KeyError):
        options = {}
    usual = 10.0 if policy.options.head == "gpm" else 1.0
    return 1 / float(options["tau"]) if "tau" in options else float(options.get("beta", usual))
