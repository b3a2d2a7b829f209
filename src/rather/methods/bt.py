"""Bradley-Terry likelihood of a reward model: the scalar baseline of arXiv 2410.02197, as in arXiv 2203.02155 eq. 1.

    P(w > l | x) = sigma((r(x, y_w) - r(x, y_l)) / tau)
    L = -log sigma((r_w - r_l) / tau)

The policy is a reward model (`reward:MODEL`), its score of a response the reward; there is no reference. Averaged over
pairs. Any label model goes around it: with `labels.flip_rate` the loss is unbiased under flipped labels. A constant added
to all rewards of a prompt changes nothing, so the level of a reward means nothing across prompts.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rather.methods.base import LabelOptions, Method, MethodOptions, PairOptions, pairwise
from rather.objectives.links import Hinge, Logistic, Sigmoid
from rather.objectives.preference import Preference

LINKS = {"logistic": Logistic, "hinge": Hinge, "sigmoid": Sigmoid}


class RewardOptions(MethodOptions):
    """Options of the losses of reward models."""

    tau: float = Field(1.0, gt=0, description="temperature: the score is divided by it")
    margin_scale: float = Field(
        0.0, ge=0, description="factor on the data's margin column, asked of each pair's score"
    )
    labels: LabelOptions = Field(LabelOptions(), description="label model around the link")

    @property
    def beta(self) -> float:
        """Scale of the score, as other methods have it."""
        return 1 / self.tau


class Options(RewardOptions):
    link: Literal["logistic", "hinge", "sigmoid"] = Field(
        "logistic", description="loss of the margin: log-likelihood, hinge, or bounded"
    )


def build(options: Options) -> Preference:
    beta = options.beta
    scaled = PairOptions(
        beta=beta, margin_scale=beta * options.margin_scale, labels=options.labels, reduce="sum", sft=0.0
    )
    return pairwise(scaled, LINKS[options.link](), needs_reference=False)


METHOD = Method(
    name="bt",
    title="Bradley-Terry likelihood of a reward model",
    equation="-log sigma((r_w - r_l) / tau)",
    source="arXiv 2410.02197 section 3, baseline",
    options=Options,
    build=build,
    needs=frozenset({"pairs", "reward"}),
    aliases=("bradley_terry",),
    dpo_limit={"tau": 10.0},
)
