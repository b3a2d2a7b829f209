"""Token-level rewards: a masked log-ratio plus a masked divergence, for each token (TDPO, SparsePO, MaPO).

    rho_t = log pi(y_t|.) - log ref(y_t|.)                  kappa_t = KL(ref(.|prefix) || pi(.|prefix)), whole vocabulary
    value = m^u_t rho_t + alpha m^d_t kappa_t               summed over the response; beta, link and labels follow

The difference of two such sums is u - delta of arXiv 2410.05102 (2404.11999 with masks of 1): u compares the masked
log-ratios, and delta = sum over the loser of m^d kappa - sum over the winner.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rather.objectives.element_values import Valued, with_log_ratio
from rather.objectives.outcome import Term
from rather.objectives.scores import Layout, Scores, segment_sum


class TokenReward(nn.Module):
    """The value of each element; an ``element_values`` part.

    Gradients reach the policy through rho and kappa, and the masks through both sums.

    Args:
        reward_mask, kl_mask: masks of the two parts, (reference, layout) -> [E] (``token_masks``); ``None`` is 1
            everywhere. The same object for both is a common mask.
        alpha: factor on the divergence; at 0 it is not computed.
        still_chosen: no gradient through the divergence at responses that win (TDPO2, arXiv 2404.11999 eq. 17).
        l1_reward, l1_kl: factors on the sums of masks over both responses of an edge, for learned masks. A common mask
            takes half of each.
    """

    def __init__(
        self,
        reward_mask: nn.Module | None = None,
        kl_mask: nn.Module | None = None,
        *,
        alpha: float = 1.0,
        still_chosen: bool = False,
        l1_reward: float = 0.0,
        l1_kl: float = 0.0,
    ) -> None:
        super().__init__()
        self.reward_mask = reward_mask
        self.kl_mask = kl_mask if alpha else None
        self.alpha, self.still_chosen = alpha, still_chosen
        self.l1 = {"reward": l1_reward, "kl": l1_kl}
        self.wants = frozenset({"kl"}) if alpha else frozenset()

    def forward(self, policy: Scores, reference: Scores | None, layout: Layout) -> Valued:
        if reference is None:
            raise ValueError("this objective compares with a reference; pass its scores")
        masks = self.masks(reference, layout)
        value = policy.elements - reference.elements.detach().to(policy.elements)
        value = value if masks["reward"] is None else masks["reward"].to(value) * value
        metrics: dict[str, Tensor] = {}
        if self.alpha:
            kl = policy.extras["kl"].to(value)
            metrics["kl/token"] = kl.detach()
            if self.still_chosen:
                wins = torch.zeros(layout.responses, dtype=torch.bool, device=kl.device)
                wins[layout.winner] = True
                kl = torch.where(wins[policy.response], kl.detach(), kl)
            value = value + self.alpha * (kl if masks["kl"] is None else masks["kl"].to(kl) * kl)
        for name, mask in masks.items():
            if mask is not None:
                metrics[f"mask/{name}"] = mask.detach()
                metrics[f"mask/{name}_zero"] = (mask.detach() == 0).to(value)
        return Valued(with_log_ratio(policy, reference, value), self._sizes(masks, policy.response, layout), metrics)

    def masks(self, reference: Scores, layout: Layout) -> dict[str, Tensor | None]:
        """``reward`` and ``kl``: [E], or ``None`` for 1 everywhere; a common mask is made once."""
        reward = self.reward_mask(reference, layout) if self.reward_mask is not None else None
        if self.kl_mask is self.reward_mask:
            return {"reward": reward, "kl": reward}
        return {"reward": reward, "kl": self.kl_mask(reference, layout) if self.kl_mask is not None else None}

    def _sizes(self, masks: dict[str, Tensor | None], response: Tensor, layout: Layout) -> tuple[Term, ...]:
        """The L1 terms: sums of a mask over the tokens of both ends, mean over edges."""
        share = 0.5 if self.kl_mask is self.reward_mask else 1.0
        terms = []
        for name, mask in masks.items():
            if mask is not None and self.l1[name]:
                sums = segment_sum(mask, response, layout.responses)
                per_edge = (sums[layout.winner] + sums[layout.loser]) * layout.weight.to(sums)
                terms.append(Term(f"l1_{name}", per_edge, "edges", share * self.l1[name]))
        return tuple(terms)
