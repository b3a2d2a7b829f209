"""Guidance of a sampler by a second prediction that is to be moved away from, and the weights of the model that makes it.

    eps_guided = eps + omega (eps - eps_negative)

Classifier-free guidance (arXiv 2207.12598; scale 1 + omega) when the negative prediction is the same network's without a
prompt; with a network trained to be worse in its place, Diffusion-NPO (arXiv 2505.11245) and Self-NPO (arXiv 2505.11777).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from rather.policies.schedule import Predict


@dataclass(frozen=True)
class Guidance:
    """Attributes:
    network: what the negative prediction is made with; the sampled network itself for ordinary guidance.
    omega: how far to go on, 0 for not at all. The usual scale is 1 + omega.
    same_prompt: the negative network sees the prompt too, instead of none.
    """

    network: nn.Module
    omega: float
    same_prompt: bool = False


def guided(positive: Predict, negative: Predict, omega: float) -> Predict:
    """The guided prediction. Of noise or of velocity: at a given x_t one is an affine function of the other, and the weights
    1 + omega and -omega add up to 1. With omega = 0, or where both agree, it is ``positive`` to the bit."""

    def predict(noisy: Tensor, timestep: Tensor) -> Tensor:
        own = positive(noisy, timestep)
        return own + omega * (own - negative(noisy, timestep))

    return predict


def merged(
    base: Mapping[str, Tensor],
    positive: Mapping[str, Tensor],
    negative: Mapping[str, Tensor],
    a: float = 1.0,
    b: float = 1.0,
) -> dict[str, Tensor]:
    """Weights base + a (positive - base) + b (negative - base) of a negative model for a model that was itself trained.

    Both offsets are from the same base (adapters fused before). With a = 1 the negative model follows the positive one, so
    that the two predictions stay correlated; 1 and 1 are the released code's.

    Raises:
        ValueError: the three do not name the same tensors.
    """
    if not base.keys() == positive.keys() == negative.keys():
        raise ValueError("merged weights need the same names in all three models")
    return {
        name: start + a * (positive[name] - start) + b * (negative[name] - start)
        if start.is_floating_point()
        else start
        for name, start in base.items()
    }
