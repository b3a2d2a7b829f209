"""Sparse token masks (SparsePO), arXiv 2410.05102.

    u     = sum_t m^u_t rho_t(y_w) - sum_t m^u_t rho_t(y_l),        rho_t   = log pi(y_t|.) - log ref(y_t|.)
    delta = sum_t m^d_t kappa_t(y_l) - sum_t m^d_t kappa_t(y_w),    kappa_t = KL(ref(.|prefix) || pi(.|prefix))
    L     = -log sigma( beta (u - delta) ) + l1_reward |m^u|_1 + l1_kl |m^d|_1         (|m|_1: over both responses)

The masks are non-negative functions of the reference's states at the position that predicts a token; they are learned
with the policy (``rather.objectives.token_masks``) and thrown away after training. A common mask is used for both parts,
and then each of the two L1 factors is halved. Masks of 1 are TDPO, and without the divergence (``alpha`` 0) DPO. Both
parts of a mask scale beta: masks can grow instead of the policy. At pi = ref neither mask has a gradient.

Masks start at 1, so training starts as TDPO (our reading; see ``LearnedMask``). They share the model's learning rate
and have a weight decay of their own. beta is the paper's for HH; for IMDb and TL;DR it has 0.8.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rather.methods.base import Limit, Method, PairOptions, pairwise
from rather.objectives.links import Logistic
from rather.objectives.preference import Preference
from rather.objectives.token_kl import TokenReward
from rather.objectives.token_masks import LearnedMask, MaskInput


class Options(PairOptions):
    mask_on_reward: bool = Field(True, description="mask the log-ratios; otherwise their mask is 1")
    mask_on_kl: bool = Field(True, description="mask the divergences; otherwise their mask is 1")
    masks: Literal["independent", "common"] = Field("independent", description="a mask for each part, or one for both")
    reads: MaskInput = Field("simple_all", description="what a mask is made of: all layers, or the last state")
    alpha: float = Field(1.0, ge=0, description="factor on the divergence; 0 leaves it out")
    l1_reward: float = Field(0.0, ge=0, description="L1 penalty on the mask of the log-ratios, summed over a pair")
    l1_kl: float = Field(0.0, ge=0, description="L1 penalty on the mask of the divergences, summed over a pair")
    mask_start: float = Field(1.0, gt=0, description="where every mask starts")
    mask_dropout: float = Field(0.01, ge=0, lt=1, description="dropout behind the rectifiers of a mask")
    mask_weight_decay: float = Field(0.01, ge=0, description="weight decay of the matrices of a mask")


def build(options: Options) -> Preference:
    def mask() -> LearnedMask:
        return LearnedMask(options.reads, bias=options.mask_start, dropout=options.mask_dropout)

    reward = mask() if options.mask_on_reward else None
    common = options.masks == "common" and reward is not None
    on_kl = (reward if common else mask()) if options.mask_on_kl else None
    values = TokenReward(reward, on_kl, alpha=options.alpha, l1_reward=options.l1_reward, l1_kl=options.l1_kl)
    objective = pairwise(options, Logistic(), element_values=values)
    objective.rate_factor, objective.weight_decay = 1.0, options.mask_weight_decay
    return objective


METHOD = Method(
    name="sparsepo",
    title="SparsePO: a learned sparse mask on each token's reward and divergence",
    equation="-log sigma(beta (u - delta)),  u of m^u rho, delta of m^d KL(ref||pi);  m >= 0 from the reference's states",
    source="arXiv 2410.05102",
    options=Options,
    build=build,
    needs=frozenset({"pairs", "reference", "likelihood", "tokens"}),
    aliases=("sparse_po",),
    dpo_limit={"mask_on_reward": False, "alpha": 0.0},
    limits=(Limit({"mask_on_reward": False, "mask_on_kl": False}, "tdpo", {}),),
    exceptions={"margin_only": "a masked sum counts the same constant differently in different responses"},
)
