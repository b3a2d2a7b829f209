"""Token masks from activations (MaPO), arXiv 2410.05102.

    L = -log sigma( beta (u - delta) ),   u and delta as in SparsePO, with one mask m for both

The mask is not learned: the reference's activations at the position that predicts a token, averaged over features and
rescaled to [0, 1] over the response for each hook; mean within each kind of hook, then over the kinds. What is hooked
in a given model, and what of the released code's hooks is not, is in ``rather.policies.activations``.
"""

from __future__ import annotations

from pydantic import Field

from rather.methods.base import Limit, Method, PairOptions, pairwise
from rather.objectives.links import Logistic
from rather.objectives.preference import Preference
from rather.objectives.token_kl import TokenReward
from rather.objectives.token_masks import ActivationMask


class Options(PairOptions):
    mask_on_reward: bool = Field(True, description="mask the log-ratios; otherwise their mask is 1")
    mask_on_kl: bool = Field(True, description="mask the divergences; otherwise their mask is 1")
    alpha: float = Field(1.0, ge=0, description="factor on the divergence; 0 leaves it out")


def build(options: Options) -> Preference:
    mask = ActivationMask() if options.mask_on_reward or options.mask_on_kl else None
    values = TokenReward(
        mask if options.mask_on_reward else None, mask if options.mask_on_kl else None, alpha=options.alpha
    )
    return pairwise(options, Logistic(), element_values=values)


METHOD = Method(
    name="mapo_tokens",
    title="MaPO: token masks from the reference's activations",
    equation="-log sigma(beta (u - delta)),  u of m rho, delta of m KL(ref||pi);  m in [0, 1] from activations",
    source="arXiv 2410.05102",
    options=Options,
    build=build,
    needs=frozenset({"pairs", "reference", "likelihood", "tokens"}),
    dpo_limit={"mask_on_reward": False, "alpha": 0.0},
    limits=(Limit({"mask_on_reward": False, "mask_on_kl": False}, "tdpo", {}),),
    exceptions={"margin_only": "a masked sum counts the same constant differently in different responses"},
)
