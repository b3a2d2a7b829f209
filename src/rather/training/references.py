"""What the policy is compared with: five kinds behind one ``score``.

Every kind scores in eval mode and without gradient, from weights as they were before training (or, for an average, as
it has them). ``draw`` is the policy's own: both see the same noise.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from rather.errors import UserError
from rather.objectives.scores import Scores
from rather.policies.base import Batch, Draw, Policy
from rather.training.config import ReferenceKind, TrainConfig
from rather.training.learner import Learner, asked


class Reference(Protocol):
    """Attributes: ``kind``: its name in the settings."""

    kind: str

    def score(self, batch: Batch, draw: Draw) -> Scores | None:
        """The reference's scores, detached; ``None`` for no reference."""
        ...

    def draw(self, batch: Batch, seed: int) -> Draw:
        """The draw that the reference makes, for an objective whose noising asks it."""
        ...

    def advance(self, step: int) -> None:
        """Called after optimizer step ``step`` (1-based)."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Tensors a checkpoint has to hold."""
        ...

    def load(self, state: Mapping[str, Tensor]) -> None: ...


class Still:
    """A reference that never moves."""

    kind = "none"

    def score(self, batch: Batch, draw: Draw) -> Scores | None:
        return None

    def draw(self, batch: Batch, seed: int) -> Draw:
        fix = "choose --noising.inverter policy, or another --reference"
        raise UserError("there is no reference model to invert with", where="--noising.inverter reference", fix=fix)

    def advance(self, step: int) -> None:
        return None

    def state(self) -> dict[str, Tensor]:
        return {}

    def load(self, state: Mapping[str, Tensor]) -> None:
        return None


class Frozen(Still):
    """A copy of the network, made before training."""

    kind = "frozen"

    def __init__(self, policy: Policy, wants: frozenset[str] = frozenset(), noising: Any = None) -> None:
        self.policy, self.wants, self.noising = policy, wants, noising
        self.network = copy.deepcopy(policy.network).requires_grad_(False).eval()

    def score(self, batch: Batch, draw: Draw) -> Scores:
        with torch.no_grad():
            return self.policy.score(self.network, batch, draw, **asked(self.wants)).detach()

    def draw(self, batch: Batch, seed: int) -> Draw:
        told: Any = self.policy
        return told.draw(batch, seed, self.noising, self.network)


class AdaptersOff(Still):
    """The network itself without its adapters."""

    kind = "adapters"

    def __init__(self, learner: nn.Module, policy: Policy) -> None:
        if policy.adapters_off(policy.network) is None:
            raise UserError("the model has no adapters to switch off", where="--reference adapters", fix="add --lora")
        self.learner, self.policy = learner, policy

    def score(self, batch: Batch, draw: Draw) -> Scores:
        with (
            torch.no_grad(),
            scoring_mode(self.learner),
            self._off(),
        ):
            scores = self.learner(batch, draw).detach()
        return scores if scores.head is None else replace(scores, head=self._without(scores.head))

    def draw(self, batch: Batch, seed: int) -> Draw:
        with torch.no_grad(), scoring_mode(self.learner), self._off():
            return self.learner(batch, None, seed=seed)

    def _off(self) -> AbstractContextManager[None]:
        return self.policy.adapters_off(self.policy.network) or nullcontext()

    def _without(self, head: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """The head as the reference has it; it is used while the policy is scored, with adapters on."""

        def logits(states: Tensor) -> Tensor:
            with self._off():
                return head(states)

        return logits


class Averaged(Still):
    """A second set of the trained weights that follows the policy.

    ``ema``: average <- decay * average + (1 - decay) * policy after each step. ``sync``: the policy's weights, taken
    every ``every`` steps. Only trained weights are held twice; to score, they change places with the policy's.
    """

    def __init__(
        self, kind: ReferenceKind, learner: nn.Module, trained: dict[str, nn.Parameter], decay: float, every: int
    ) -> None:
        if any(isinstance(parameter, DTensor) for parameter in trained.values()):
            raise UserError(
                "an averaged reference cannot be sharded", where=f"--reference {kind}", fix="train without FSDP"
            )
        self.kind: str = kind
        self.learner, self.trained, self.decay, self.every = learner, trained, decay, every
        self.weights = {name: parameter.detach().clone() for name, parameter in trained.items()}

    def score(self, batch: Batch, draw: Draw) -> Scores:
        with torch.no_grad(), scoring_mode(self.learner), self._in_place():
            return self.learner(batch, draw).detach()

    def draw(self, batch: Batch, seed: int) -> Draw:
        with torch.no_grad(), scoring_mode(self.learner), self._in_place():
            return self.learner(batch, None, seed=seed)

    @contextmanager
    def _in_place(self) -> Iterator[None]:
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def _exchange(self) -> None:
        for name, parameter in self.trained.items():
            parameter.data, self.weights[name] = self.weights[name], parameter.data

    @torch.no_grad()
    def advance(self, step: int) -> None:
        if self.kind == "ema":
            for name, weight in self.weights.items():
                weight.lerp_(self.trained[name].detach(), 1 - self.decay)
        elif step % self.every == 0:
            for name, weight in self.weights.items():
                weight.copy_(self.trained[name].detach())

    def state(self) -> dict[str, Tensor]:
        return dict(self.weights)

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        for name, weight in self.weights.items():
            weight.copy_(state[name])


@contextmanager
def scoring_mode(module: nn.Module) -> Iterator[None]:
    """Eval mode, and each module's own mode again afterwards."""
    modes = [(part, part.training) for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def choose(
    config: TrainConfig, needed: bool, has_adapters: bool, draws: bool, wants: frozenset[str] = frozenset()
) -> ReferenceKind:
    """The kind that ``auto`` stands for, and a check of one that was asked for.

    Args:
        needed: whether the objective compares with a reference.
        has_adapters: whether the network has adapters that can be switched off.
        draws: whether a score depends on noise, so that it cannot be computed once for all.
        wants: what is wanted of the reference beside its scores; then the model itself has to be there, and stay as
            it is: ``frozen`` or ``adapters``.

    Raises:
        UserError: the objective needs a reference and none was allowed, noisy scores were to be cached, or a kind was
            asked for that has no model at hand.
    """
    kind = config.reference
    if not needed:
        return "none"
    if kind == "none":
        what = f"the method {config.method!r} compares with a reference"
        raise UserError(what, where="--reference none", fix="leave --reference out, or choose a reference-free method")
    if kind == "cached" and draws:
        what = "scores of this policy depend on noise that is drawn anew, so they cannot be cached"
        raise UserError(what, where="--reference cached", fix="use frozen, or adapters with --lora")
    if wants and kind not in ("auto", "frozen", "adapters"):
        what = f"the method {config.method!r} needs {', '.join(sorted(wants))} of the reference, not only its scores"
        raise UserError(what, where=f"--reference {kind}", fix="use frozen, or adapters with --lora")
    if kind == "auto":
        return ("adapters" if has_adapters else "frozen") if draws or wants else "cached"
    return kind


def build_copy(
    kind: ReferenceKind, policy: Policy, wants: frozenset[str] = frozenset(), noising: Any = None
) -> Frozen | None:
    """The part of a reference that has to exist before the network is wrapped or sharded."""
    return Frozen(policy, wants, noising) if kind == "frozen" else None


def build(
    kind: ReferenceKind, learner: nn.Module, policy: Policy, config: TrainConfig, frozen: Frozen | None
) -> Reference:
    """Any kind but ``cached``, around the prepared ``learner``."""
    if frozen is not None:
        return frozen
    if kind == "none":
        return Still()
    if kind == "adapters":
        return AdaptersOff(learner, policy)
    inner = getattr(learner, "module", learner)
    if not isinstance(inner, Learner):
        raise TypeError(f"expected a Learner, got {type(inner).__name__}")
    trained = {name: p for name, p in inner.network.named_parameters() if p.requires_grad}
    return Averaged(kind, learner, trained, config.ref_decay, config.ref_sync_steps)
