"""What is wrapped and distributed: the network together with the objective's learned parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import nn

from rather.data.types import Comparison
from rather.errors import UserError
from rather.objectives.base import Objective, wanted
from rather.objectives.outcome import Outcome
from rather.objectives.scores import Scores
from rather.policies.base import Batch, Draw, Encoded, Policy

if TYPE_CHECKING:
    from rather.methods.base import Method


class Learner(nn.Module):
    """Scoring and loss in one forward pass.

    Wrappers (DDP, FSDP2) hook a module's ``forward``. A policy may call parts of its network (the body, then the head
    on some positions), so what is wrapped is not the network but this module: whatever ``score`` calls is inside the
    pass.
    """

    def __init__(self, policy: Policy, objective: Objective) -> None:
        super().__init__()
        self.network = policy.network
        self.objective = objective
        self.score = policy.score
        self.draw: Any = policy.draw
        self.wants, self.reference_wants = wanted(objective)

    def forward(
        self,
        batch: Batch,
        draw: Draw,
        reference: Scores | None = None,
        counts: Mapping[str, float] | None = None,
        *,
        seed: int | None = None,
    ) -> Any:
        """The network's ``Scores`` as a reference; with ``counts``, (loss under these denominators, ``Outcome``,
        detached ``Scores``); with ``seed`` the draw that this network makes, as the objective's noising asks."""
        if seed is not None:
            return self.draw(batch, seed, self.objective.noising, self.network)
        if counts is None:
            return self.score(self.network, batch, draw, **asked(self.reference_wants))
        scores = self.score(self.network, batch, draw, **asked(self.wants, reference))
        outcome: Outcome = self.objective(scores, reference, batch.layout)
        return outcome.loss(counts), outcome, scores.detach()


def asked(wants: frozenset[str], reference: Scores | None = None) -> dict[str, Any]:
    """What ``Policy.score`` is told beside batch and draw; nothing where nothing is wanted."""
    return {"wants": wants, "reference": reference} if wants else {}


def ready(method: Method, objective: Objective, policy: Policy) -> None:
    """Size an objective for a policy's model.

    Raises:
        UserError: it wants something of the scores, or of the noise, that the policy does not provide.
    """
    own, of_reference = wanted(objective)
    lacking = sorted((own | of_reference) - policy.provides - {"ids"})
    if lacking:
        what = f"the method {method.name!r} needs {', '.join(lacking)} of each token, which this model does not give"
        fix = f"the model is a {policy.kind} model; choose another method or model"
        raise UserError(what, where=f"--method {method.name}", fix=fix)
    if objective.noising is not None and "noising" not in policy.provides:
        what = f"the method {method.name!r} noises responses in a way of its own, and this model takes no noise"
        fix = f"the model is a {policy.kind} model; choose another method, or a denoising model"
        raise UserError(what, where=f"--method {method.name}", fix=fix)
    told: Any = policy
    objective.prepare(told.facts() if hasattr(policy, "facts") else {})


def encode(policy: Policy, objective: Objective, comparisons: Sequence[Comparison]) -> list[Encoded]:
    """Comparisons in the policy's numbers, with the tokens weighted as the objective asks."""
    encoder: Any = policy.encode
    return encoder(comparisons) if objective.weigh is None else encoder(comparisons, weigh=objective.weigh)


def trained_parameters(module: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def count_parameters(module: nn.Module) -> dict[str, int]:
    """``{"trained", "total"}`` numbers of parameters; tied ones once."""
    every: list[Any] = list(module.parameters())
    return {"trained": sum(p.numel() for p in every if p.requires_grad), "total": sum(p.numel() for p in every)}
