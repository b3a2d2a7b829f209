"""DPO with rationales (RDPO of its paper), arXiv 2407.14477.

    p(y_w > y_l, r | x) = p(y_w > y_l | x) p(r | x, y_w > y_l)
    L = -log sigma(beta h) - gamma l_r          link=log, the paper's formula
    L = -log sigma(beta h) - log sigma(gamma l_r)   link=logsigmoid, the released code

r is a text that says why y_w is better (column ``rationale``; ``rather rationales DATA --model M --out FILE`` writes it).
l_r = log pi(r | q(x, y_w, y_l)) is the sum over its tokens with the end of the turn, q a prompt that shows both responses
and asks which is better and why. Both terms are means over pairs; a pair without a rationale has no second term. The
reference has no part in l_r. Nothing changes at inference.

The two links differ: with logsigmoid the weight of l_r lies between gamma / 2 and gamma and log 2 is added at l_r = 0.
A sum over a long rationale with gamma 1 is hundreds of times the preference loss, the run then is SFT on rationales; the
released runs have gamma 0.1 and 0.001. Left out, gamma is 1 / (mean length of the step's rationales in tokens), so the
second term is the mean of -log p per token, and the two are of comparable size (our reading).

Which of the two responses is shown first is drawn for each pair and kept with a rationale that names them (our
reading); the released data has the chosen one first in every record (``chosen_first``), so that position alone tells the
verdict. A rationale belongs to its order of preference: after labels are flipped it is wrong. Not the robust rDPO of
arXiv 2403.00409, nor R-DPO with a length penalty.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field, model_validator

from rather.data.rationales import with_rationales
from rather.data.types import Comparison
from rather.methods.base import Method, PairOptions, pairwise
from rather.objectives.auxiliary import AuxiliaryLikelihood, LikelihoodLink
from rather.objectives.links import Logistic
from rather.objectives.preference import Preference


class RationaleOptions(PairOptions):
    """Options of every method with a term for rationales."""

    link: LikelihoodLink = Field("log", description="of the rationale's log-likelihood l_r: -gamma l_r, or log sigma")
    chosen_first: bool = Field(False, description="show the chosen answer first where the data stores no order")


class Options(RationaleOptions):
    gamma: float | None = Field(
        None, ge=0, description="weight of the rationale's summed log-likelihood; left out: 1 / mean length in tokens"
    )

    @model_validator(mode="after")
    def _weight(self) -> Options:
        if self.link == "logsigmoid" and self.gamma is None:
            raise ValueError("link logsigmoid needs a gamma: 0.1 and 0.001 in the released runs")
        return self


def build(options: Options) -> Preference:
    return pairwise(options, Logistic(), anchors=[AuxiliaryLikelihood("rationale", options.gamma, link=options.link)])


def augment(options: RationaleOptions, comparisons: Sequence[Comparison], seed: int) -> list[Comparison]:
    return with_rationales(comparisons, seed, chosen_first=options.chosen_first)


METHOD = Method(
    name="rationale_dpo",
    title="DPO and the likelihood of the reason for each preference",
    equation="-log sigma(beta h) - gamma log pi(rationale | x, y_w, y_l)",
    source="arXiv 2407.14477",
    options=Options,
    build=build,
    needs=frozenset({"pairs", "reference", "likelihood", "auxiliary"}),
    dpo_limit={"gamma": 0.0},
    exceptions={
        "shift": "the likelihood of the rationale is not compared with the reference",
        "margin_only": "the likelihood of the rationale is a term of its own",
    },
    augment=augment,
)
