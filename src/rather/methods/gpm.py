"""General preference model: responses as vectors instead of rewards (GPM), arXiv 2410.02197.

    s(i > j | x) = sum_l lambda_l(x) (v_i[2l] v_j[2l+1] - v_i[2l+1] v_j[2l]),    P(i > j | x) = sigma(s / tau)
    L = -p log sigma(s / tau) - (1 - p) log sigma(-s / tau)                                  (eq. A.1)

v(x, y) comes from a linear head on the response's last token, lambda(x) from one on the prompt's (`reward:MODEL?head=gpm`;
which vectors are of unit length is settled there). p is the data's probability where it has one, else 1; other label
models are options. Averaged over pairs. Scores are antisymmetric by construction and may go in cycles, which no reward
can. One plane with v = (r, 1) is `bt`.

tau is the paper's beta (0.1), called tau in the released code. The sign of s is the code's and that of the paper's
definition 4.3; section 4.2 writes the opposite one. A margin m is asked of the score, (s - m) / tau.
"""

from __future__ import annotations

from pydantic import Field

from rather.methods.base import LabelOptions, Method
from rather.methods.bt import RewardOptions
from rather.objectives.embedding import EmbeddingPreference
from rather.objectives.labels import Soft
from rather.objectives.links import Logistic
from rather.objectives.margins import Offset


class Options(RewardOptions):
    tau: float = Field(0.1, gt=0, description="temperature: the score is divided by it (the paper's beta)")


def build(options: Options) -> EmbeddingPreference:
    asked = options.labels != LabelOptions()
    return EmbeddingPreference(
        scale=options.beta,
        link=Logistic(),
        labels=options.labels.build() if asked else Soft(),
        offset=Offset(scale=options.beta * options.margin_scale),
    )


METHOD = Method(
    name="gpm",
    title="General preference model: skew-symmetric scores of response embeddings",
    equation="-log sigma(s / tau),  s = <R v_w, v_l>",
    source="arXiv 2410.02197 eq. A.1",
    options=Options,
    build=build,
    needs=frozenset({"pairs", "embedding"}),
    aliases=("general_preference_model",),
    dpo_limit={"tau": 1.0},
)
